"""Where a home keeps its things. One rule: two homes never see each other.

A home is one directory (`--home`, `$UNDERSTUDY_HOME`) or, without either, the XDG directories.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_MAX = 100  # bytes of sun_path: 108 on Linux, 104 on macOS


@dataclass(frozen=True)
class Home:
    """`config` is what the operator edits, `state` is what the engine writes; in a one-directory home both are it."""

    config: Path
    state: Path

    @property
    def config_file(self) -> Path:
        return self.config / "config.toml"

    @property
    def themes(self) -> Path:
        return self.config / "themes"

    @property
    def socket(self) -> Path:
        """The engine's socket; where the home's path is too long for one, a short private directory holds it."""
        path = self.state / "engine.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return path
        digest = hashlib.blake2s(os.fsencode(self.state), digest_size=8).hexdigest()
        return Path(tempfile.gettempdir()) / f"understudy-{os.getuid()}-{digest}" / "engine.sock"

    @property
    def lock(self) -> Path:
        return self.state / "engine.lock"

    @property
    def log(self) -> Path:
        return self.state / "engine.log"

    @property
    def database(self) -> Path:
        return self.state / "understudy.db"

    @property
    def operations_database(self) -> Path:
        return self.state / "operations.db"

    @property
    def telemetry_database(self) -> Path:
        return self.state / "telemetry.db"

    @property
    def secrets_dir(self) -> Path:
        return self.state / "secrets"

    @property
    def identity(self) -> Path:
        return self.state / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.state / "ssh" / "known_hosts"

    @property
    def lab_dir(self) -> Path:
        return self.state / "lab"

    @property
    def lab_file(self) -> Path:
        """Written by a running lab: its endpoints and token."""
        return self.lab_dir / "lab.json"

    @property
    def lab_mark(self) -> Path:
        """Makes this a lab home for good: its engine talks to the lab only."""
        return self.state / "lab-home"

    @property
    def is_lab(self) -> bool:
        return self.lab_mark.exists()

    def create(self) -> Home:
        """Makes the directories, 0700."""
        for path in (self.config, self.state):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self


def find(argument: str | None = None) -> Home:
    """The home that a command means: `--home`, then `$UNDERSTUDY_HOME`, then the XDG directories."""
    named = argument or os.environ.get("UNDERSTUDY_HOME")
    if named:
        path = Path(named).expanduser().absolute()
        return Home(path, path)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "understudy"
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "understudy"
    return Home(config, state)
