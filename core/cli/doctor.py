"""`understudy doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from core import secrets
from core.cli.session import Session, Verb, pass_session
from core.config import load
from core.domain.api import Check
from core.domain.errors import EngineError
from core.home import Home

_DISK_LOW_BYTES = 1024**3
_SSH_TIMEOUT_S = 10
_BUNDLED_THEMES = Path(__file__).resolve().parents[2] / "themes"  # beside the packages, in a wheel too


@click.command(cls=Verb)
@pass_session
def doctor(session: Session) -> None:
    """Check keys (read-only calls), SSH, clock, disk, settings and the rest; leaves with 1 when something is wrong."""
    checks = [_python(), _home(session.home), *_of_engine(session), _themes(session.home)]
    ok = all(c.ok for c in checks)
    found = {"ok": ok, "checks": [msgspec.to_builtins(c) for c in checks]}
    session.out.document(found, lambda: _people(session, checks))
    if not ok:
        raise click.exceptions.Exit(1)


def _people(session: Session, checks: list[Check]) -> None:
    rows: list[list[Any]] = [["ok" if c.ok else "bad", c.name, c.detail] for c in checks]
    session.out.table(["", "CHECK", "DETAIL"], rows)
    for check in checks:
        if not check.ok and check.hint:
            session.out.say(f"{check.name}: {check.hint}", "yellow")


def _python() -> Check:
    enough = sys.version_info >= (3, 11)
    return Check(name="python", ok=enough, detail=sys.version.split()[0], hint="Python 3.11 or newer is needed.")


def _of_engine(session: Session) -> list[Check]:
    """The engine's own checks; where it does not answer, why, and those that need no engine."""
    try:
        reply = session.run(session.engine().doctor())
    except EngineError as e:
        home = session.home
        return [
            Check(name="engine", ok=False, detail=str(e), hint=e.hint),
            _secrets(home),
            _disk(home),
            _settings(home),
            _ssh(),
        ]
    return [Check(name="engine", ok=True, detail="answers"), *reply.checks]


def _home(home: Home) -> Check:
    try:
        mode = stat.S_IMODE(home.create().state.stat().st_mode)
    except OSError as e:
        return Check(
            name="home", ok=False, detail=f"{home.state}: {e.strerror}", hint="Choose another one: --home DIR."
        )
    private = not mode & 0o077
    kind = "lab home" if home.is_lab else "real accounts"
    hint = "" if private else f"Make it yours alone: chmod 700 {home.state}"
    return Check(name="home", ok=private, detail=f"{home.state} ({kind}, {mode:04o})", hint=hint)


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(home.state).free
    hint = "Free some space: the engine must be able to write what it does before it does it."
    return Check(name="disk", ok=free >= _DISK_LOW_BYTES, detail=f"{free / 1024**3:.1f} GiB free", hint=hint)


def _settings(home: Home) -> Check:
    problems = load(home).problems
    return Check(
        name="settings",
        ok=not problems,
        detail=problems[0] if problems else str(home.config_file),
        hint="All problems: understudy config list." if problems else "",
    )


def _themes(home: Home) -> Check:
    """Whether the chosen theme is there and the operator's own are TOML; their colours the console judges."""
    bad, names = [], set()
    for folder in (_BUNDLED_THEMES, home.themes):
        for path in sorted(folder.glob("*.toml")):
            try:
                table = tomllib.loads(path.read_text("utf-8")).get("theme")
                names.add(str(table.get("name", path.stem)) if isinstance(table, dict) else path.stem)
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
                bad.append(f"{path} is no TOML ({e})")
    chosen = load(home).settings.console.theme
    if chosen not in names:
        bad.append(f"there is no theme '{chosen}'; the console takes another")
    hint = f"Those there are: {', '.join(sorted(names))}; choose by: understudy config set console.theme NAME."
    return Check(name="themes", ok=not bad, detail="; ".join(bad) or chosen, hint=hint if bad else "")


def _ssh() -> Check:
    where = shutil.which("ssh")
    if where is None:
        return Check(name="ssh", ok=False, detail="OpenSSH's client is not installed", hint="Install openssh-client.")
    said = subprocess.run([where, "-V"], capture_output=True, text=True, check=False, timeout=_SSH_TIMEOUT_S)
    return Check(name="ssh", ok=said.returncode == 0, detail=(said.stderr or said.stdout).strip()[:80] or where)


def _secrets(home: Home) -> Check:
    names = secrets.names(home, os.environ)
    if not names:
        hint = "Store one: understudy secrets set vast. Without an account: understudy demo."
        return Check(name="secrets", ok=False, detail="no provider's key is set", hint=hint)
    return Check(name="secrets", ok=True, detail=", ".join(f"{n} ({w})" for n, w in names.items()))
