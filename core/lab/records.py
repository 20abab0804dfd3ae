"""What must be known of each machine after a restart of the front: one small file per machine, beside its root.
One rule: written whole and renamed; a file that cannot be read is a machine that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,79}\Z")


@dataclass(frozen=True)
class Record:
    """`state` is booting, running, stopped or dead; ports 0 mean any; `port` is the server behind the gate."""

    id: str
    state: str = "dead"
    ports: tuple[int, int] = (0, 0)
    port: int = 0
    impostor_port: int = 0
    fault: str | None = None
    latency_s: float = 0.0
    bytes_per_s: int = 0

    @property
    def target_port(self) -> int:
        """Where the gate leads: the machine, or the one that answers in its place. 1 (nobody) before the first boot."""
        return self.impostor_port or self.port or 1

    def healed(self, *, port: int) -> Record:
        """As after a boot: running at `port`, with nothing wrong with its network."""
        return replace(self, state="running", port=port, impostor_port=0, fault=None, latency_s=0.0, bytes_per_s=0)


class Records:
    """All machines of one lab home."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._by_id: dict[str, Record] = {}

    def load(self) -> None:
        for directory in (self._directory.parent, self._directory):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        for file in sorted(self._directory.glob("*/record.json")):
            try:
                fields = json.loads(file.read_text())
                record = Record(**{**fields, "ports": tuple(fields["ports"])})
            except (OSError, ValueError, TypeError, KeyError):
                continue
            self._by_id[record.id] = record

    def root(self, machine_id: str) -> Path:
        """The machine's directory as it sees it at `/`. Raises OSError for an id that is no file name."""
        if not SAFE_ID.match(machine_id):
            raise OSError(f"{machine_id!r} cannot name a machine")
        return self._directory / machine_id / "root"

    def put(self, record: Record) -> Record:
        if self._by_id.get(record.id) != record:
            self._by_id[record.id] = record
            file = self.root(record.id).parent / "record.json"
            new = file.with_suffix(".new")
            new.write_text(json.dumps(asdict(record)))
            new.replace(file)
        return record

    def get(self, machine_id: str) -> Record | None:
        return self._by_id.get(machine_id)

    def forget(self, machine_id: str) -> None:
        self._by_id.pop(machine_id, None)
        (self.root(machine_id).parent / "record.json").unlink(missing_ok=True)

    def all(self) -> list[Record]:
        return list(self._by_id.values())

    def __contains__(self, machine_id: str) -> bool:
        return machine_id in self._by_id

    def __iter__(self) -> Iterator[Record]:
        return iter(self.all())
