"""The systemd user unit of a home's engine. One rule: it is shown before it is written."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import core
from core.domain.errors import UnderstudyError
from core.home import Home

LINGER_HINT = "So that it runs while you are logged out: loginctl enable-linger"

# What a user's own manager can enforce without privileges (systemd.exec(5)): those options that need mount or user
# namespaces are left out, since many hosts forbid them to users and the unit would then not start at all.
_UNIT = """[Unit]
Description=Understudy engine ({home})
Documentation=man:systemd.exec(5)
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=exec
ExecStart={command}
{environment}Restart=on-failure
RestartSec=1
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec=15
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
LimitCORE=0

[Install]
WantedBy=default.target
"""


def path(home: Home) -> Path:
    """One unit for each home: the XDG one has the plain name."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
    if home.config != home.state:
        return base / "understudy.service"
    return base / f"understudy-{hashlib.blake2s(os.fsencode(home.state), digest_size=4).hexdigest()}.service"


def text(home: Home) -> str:
    words = [sys.executable, "-P", "-m", "core.engine", "run"]
    if home.config == home.state:
        words += ["--home", str(home.state)]
    root = Path(core.__file__).resolve().parent.parent
    checkout = root.name not in ("site-packages", "dist-packages")
    environment = f"Environment={_quoted(f'PYTHONPATH={root}')}\n" if checkout else ""
    command = " ".join(_quoted(w) for w in words)
    return _UNIT.format(home=str(home.state).replace("%", "%%"), command=command, environment=environment)


def install(unit: Path, content: str) -> list[str]:
    """Writes the unit and starts it; returns the commands that were run. Raises UnderstudyError."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        raise UnderstudyError(
            "There is no systemctl here.", hint="Give your service manager this command: understudy engine run."
        )
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text(content, "utf-8")
    done = []
    for words in (["daemon-reload"], ["enable", "--now", unit.name]):
        command = [systemctl, "--user", *words]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            said = result.stderr.strip().splitlines()
            raise UnderstudyError(
                f"systemctl --user {' '.join(words)} failed{': ' + said[-1] if said else '.'}",
                hint=f"The unit is written to {unit}.",
            )
        done.append(" ".join(command))
    return done


def _quoted(word: str) -> str:
    """As systemd reads a command line: `%` and `$` stand for themselves only when doubled."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(c in escaped for c in " \t\"'\\;") else escaped
