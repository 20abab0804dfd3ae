"""`understudy lab`: the embedded cloud and its faults."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from core import launch
from core.cli.output import one_line
from core.cli.session import Duration, Noun, Session, operation_id, pass_session
from core.client import EngineClient
from core.config import load
from core.domain import api
from core.domain.errors import EngineError, IntentRefused, UnderstudyError
from core.domain.machines import GONE
from core.labfile import LabInfo
from core.secrets import stored


@click.group(cls=Noun)
def lab() -> None:
    """The embedded cloud: real HTTP, real SSH, real processes, no account and no cost."""


@lab.command("up")
@click.option("--seed", type=click.IntRange(min=0), help="Which world.")
@click.option("--boot-s", type=click.FloatRange(min=0), help="Seconds from rented to running.")
@click.option("--speed", type=click.FloatRange(min=0.01), help="How fast the world's time runs.")
@click.option("--pacing", type=click.Choice(["real", "off"]), help="Whether calls are paced as the real API does.")
@pass_session
def up(session: Session, seed: int | None, boot_s: float | None, speed: float | None, pacing: str | None) -> None:
    """Start it. The home becomes a lab home for good: its engine talks to the lab only."""
    if not session.home.is_lab:
        _become_lab_home(session)
    defaults = load(session.home).settings.lab
    info = launch.ensure_lab(
        session.home,
        seed=defaults.seed if seed is None else seed,
        boot_s=defaults.boot_s if boot_s is None else boot_s,
        speed=defaults.speed if speed is None else speed,
        pacing=pacing or defaults.pacing,
    )
    _answer(session, info)


def _become_lab_home(session: Session) -> None:
    """A home with real accounts never talks to a lab. Raises IntentRefused."""
    hint = "Give the lab a home of its own: understudy --home DIR lab up."
    keys = stored(session.home)
    if keys:
        raise IntentRefused(f"This home holds real keys ({', '.join(sorted(keys))}).", hint=hint)
    if not session.home.database.exists():
        return
    state = session.run(session.engine().state()).state
    machines = [m for m in state.machines.values() if m.state not in GONE]
    if machines or state.strangers or any(p.ok for p in state.providers.values()):
        raise IntentRefused("This home knows a real account.", hint=hint)
    launch.stop_engine(session.home)


@lab.command("down")
@pass_session
def down(session: Session) -> None:
    """Stop it with all its machines."""
    info = launch.lab(session.home)
    machines = _status(info)["machines"] if info is not None else []
    if machines:
        session.confirm(f"Ends the lab with its {len(machines)} machines and what is on them. End it?")
    pid = launch.stop_lab(session.home)
    found = {"state": "stopped", "was_pid": pid}
    text = "It was not running." if pid is None else "The lab is down."
    session.out.document(found, lambda: session.out.say(text))


@lab.command("status")
@pass_session
def status(session: Session) -> None:
    """Whether it runs, where it listens, and its machines."""
    info = launch.lab(session.home)
    if info is None:
        found: dict[str, Any] = {"state": "stopped", "token": None, "endpoints": {}, "machines": []}
        session.out.document(found, lambda: session.out.say("The lab is not running. Start it: understudy lab up."))
        return
    _answer(session, info)


@lab.command("fault")
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="Every fault there is, and those that are on.")
@click.option("--machine", metavar="ID", help="Ours or the lab's id.")
@click.option("--provider", help="For a fault of the provider's API.")
@click.option("--zone", help="For a fault of a zone.")
@click.option("--for", "for_s", type=Duration(), help="It ends by itself: 30s, 5m.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="As --list says; may come often.")
@click.option("--power-off", is_flag=True, help="With kill: silence instead of closed connections.")
@pass_session
def fault(session: Session, /, name: str | None, listed: bool, options: tuple[str, ...], **words: Any) -> None:
    """Make something go wrong, for real; `heal` puts it right again."""
    if listed:
        _list_faults(session)
        return
    if name is None:
        raise click.UsageError("Say which fault: understudy lab fault --list.")
    if not session.home.is_lab:
        raise IntentRefused("This is no lab home.", hint="Faults exist in a lab only: understudy --home DIR lab up.")
    client: EngineClient = session.engine()
    intent = api.FaultIntent(operation=operation_id("fault"), name=name, options=_options(options), **words)
    found = session.send(lambda: client.fault(intent))
    session.out.document(
        found, lambda: session.out.say(f"{found.get('fault', name)} on {found.get('target') or 'the lab'}.")
    )


def _options(words: tuple[str, ...]) -> dict[str, str | float]:
    """Raises UsageError for a word that is no KEY=VALUE."""
    found: dict[str, str | float] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise click.UsageError(f"--option takes KEY=VALUE, not {word!r}.")
        try:
            found[key] = float(value)
        except ValueError:
            found[key] = value
    return found


def _list_faults(session: Session) -> None:
    info = launch.lab(session.home)
    if info is None:
        raise EngineError("The lab is not running.", hint="Start it: understudy lab up.")
    found = _get(info, "/lab/faults")
    on = {f["fault"] for f in found.get("active", [])}
    rows = [[f["name"], "on" if f["name"] in on else "", f["what"]] for f in found["faults"]]
    session.out.document(found, lambda: session.out.table(["FAULT", "", "WHAT IT DOES"], rows))


def _status(info: LabInfo) -> dict[str, Any]:
    return _get(info, "/lab/status")


def _get(info: LabInfo, path: str) -> dict[str, Any]:
    status, body = launch.lab_call(info, "GET", path)
    if status != 200:
        raise UnderstudyError(f"The lab answered with HTTP {status}: {one_line(body.decode('utf-8', 'replace'))[:200]}")
    found: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    return found


def _answer(session: Session, info: LabInfo) -> None:
    found = {"state": "running", "token": info.token, "endpoints": info.endpoints, "machines": []} | _status(info)
    found |= {"token": info.token, "pid": info.pid}
    session.out.document(found, lambda: _people(session, info, found))


def _people(session: Session, info: LabInfo, found: dict[str, Any]) -> None:
    pairs = [("state", found["state"]), ("pid", info.pid), ("isolation", info.isolation)]
    session.out.fields([*pairs, *info.endpoints.items()])
    heads = ["ID", "STATE", "PROVIDER", "ISOLATION", "SSH", "PID", "FILES"]
    rows = [
        [
            m["id"],
            m["state"],
            m["provider"],
            m["isolation"],
            f"{m['ssh_host']} port {m['ssh_port']}" if m.get("ssh_port") else None,
            m.get("pid"),
            m.get("root"),
        ]
        for m in found["machines"]
    ]
    session.out.table(heads, rows, empty="No machine.")
