"""A slow disk for one machine, by the kernel's own block throttle (control groups, v1 blkio or v2 io).

One rule: what reaches the disk is slowed, synced and direct writes at once; what only fills the page cache is not,
until it is written back (v2) or synced (v1).
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from core.lab.processes import descendants

EMPTY_LIMIT_S = 2.0  # how long the dead may still stand in a group before it can be removed
EMPTY_POLL_S = 0.01


@dataclass(frozen=True)
class Throttle:
    """The groups of one lab home. `base` is the mounted hierarchy, `version` 1 or 2."""

    base: Path
    version: int
    home: Path

    @classmethod
    def find(cls, home: Path) -> Throttle:
        """Raises OSError with a sentence where this host has none that may be used."""
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            kind, _, options = rest.split(" ", 2)
            base = Path(fields.split(" ")[4])
            if kind == "cgroup" and "blkio" in options.split(" ")[-1].split(","):
                return cls._checked(base, 1, home)
            if kind == "cgroup2" and "io" in (base / "cgroup.controllers").read_text().split():
                return cls._checked(base, 2, home)
        raise OSError("this host has no control group that can slow a disk")

    @classmethod
    def _checked(cls, base: Path, version: int, home: Path) -> Throttle:
        if not os.access(base, os.W_OK):
            raise OSError("control groups may not be changed by this user")
        return cls(base, version, home)

    @property
    def _prefix(self) -> str:
        return f"understudy-lab-{zlib.crc32(os.fsencode(self.home)):08x}-"

    def _device(self) -> str:
        """major:minor of the whole disk below the home; a partition has no queue of its own."""
        number = self.home.stat().st_dev
        entry = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        if not entry.exists():
            raise OSError(f"{self.home} lies on no block device")
        if (entry / "partition").exists():
            entry = entry.resolve().parent
        return (entry / "dev").read_text().strip()

    def limit(self, machine_id: str, init: int, bytes_per_s: int) -> None:
        """Hold reads and writes of a machine, its later processes included, to a rate. Raises OSError."""
        group = self.base / f"{self._prefix}{machine_id}"
        if self.version == 2:
            (self.base / "cgroup.subtree_control").write_text("+io")
        group.mkdir(exist_ok=True)
        device = self._device()
        if self.version == 2:
            (group / "io.max").write_text(f"{device} rbps={bytes_per_s} wbps={bytes_per_s}")
        else:
            for name in ("read", "write"):
                (group / f"blkio.throttle.{name}_bps_device").write_text(f"{device} {bytes_per_s}")
        for _ in range(2):  # children of those not yet moved at the first pass
            for pid in [init, *descendants(init)]:
                with contextlib.suppress(ProcessLookupError):
                    (group / "cgroup.procs").write_text(str(pid))

    def lift(self, machine_id: str) -> None:
        """Everyone back to full speed, and the group gone. Silent when there is none."""
        self._remove(self.base / f"{self._prefix}{machine_id}")

    def groups(self) -> list[Path]:
        """Those of this home that exist now."""
        return list(self.base.glob(f"{self._prefix}*"))

    def clear(self) -> None:
        """Remove what an earlier front of this home left."""
        for group in self.groups():
            self._remove(group)

    def _remove(self, group: Path) -> None:
        deadline = time.monotonic() + EMPTY_LIMIT_S
        while group.is_dir():
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    (self.base / "cgroup.procs").write_text(pid)
            try:
                group.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(EMPTY_POLL_S)


class SlowDisks:
    """The machines of one home whose disk is slow now."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._throttle: Throttle | None = None
        self._held: set[str] = set()

    def clear(self) -> None:
        """Remove what an earlier front left; nothing where there can be nothing."""
        with contextlib.suppress(OSError):
            Throttle.find(self._home).clear()

    def hold(self, machine_id: str, init: int, bytes_per_s: int) -> None:
        """Raises OSError with a sentence where it cannot be made real."""
        try:
            self._throttle = Throttle.find(self._home)
            self._held.add(machine_id)
            self._throttle.limit(machine_id, init, bytes_per_s)
        except OSError as error:
            self.release(machine_id)
            raise OSError(f"slow-disk cannot be made real here: {error}") from error

    def release(self, machine_id: str) -> None:
        """Full speed again; silent when it was never slow. Also for a machine that is gone: its group must not stay."""
        if self._throttle and machine_id in self._held:
            self._held.discard(machine_id)
            self._throttle.lift(machine_id)

    def release_all(self) -> None:
        for machine_id in list(self._held):
            self.release(machine_id)
