"""`understudy config`: every setting with its type, default and environment name."""

from __future__ import annotations

from typing import Any

import click

from core import config as settings
from core.cli.session import Noun, Session, pass_session
from core.domain.errors import NotFoundError


def _names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [path for path in settings.KEYS if path.startswith(incomplete)]


@click.group(cls=Noun)
def config() -> None:
    """Settings: config.toml in the home, and the environment over it."""


@config.command("list")
@pass_session
def list_(session: Session) -> None:
    """Every key with its value, where that comes from, type, default and environment name."""
    loaded = settings.load(session.home)
    found = [_one(loaded, key) for key in settings.KEYS.values()]
    found += [_binding(action, keys) for action, keys in loaded.settings.keys.items()]
    document = {"file": str(session.home.config_file), "settings": found, "problems": list(loaded.problems)}
    session.out.document(document, lambda: _people(session, loaded, found))


def _one(loaded: settings.Loaded, key: settings.Key) -> dict[str, Any]:
    value = settings.value_of(loaded.settings, key.path)
    return {
        "key": key.path,
        "value": settings.shown(key.path, value),
        "origin": loaded.origins[key.path],
        "type": key.type_name,
        "default": key.default,
        "environment": key.environment,
        "doc": key.doc,
    }


def _binding(action: str, keys: str) -> dict[str, Any]:
    return {
        "key": f"keys.{action}",
        "value": keys,
        "origin": "file",
        "type": "keys",
        "default": None,
        "environment": None,
        "doc": "The keys of this action of the console.",
    }


def _people(session: Session, loaded: settings.Loaded, found: list[dict[str, Any]]) -> None:
    rows = [
        [s["key"], _word(s["value"]), s["origin"], s["type"], _word(s["default"]), s["environment"] or "", s["doc"]]
        for s in found
    ]
    session.out.table(["KEY", "VALUE", "FROM", "TYPE", "DEFAULT", "ENVIRONMENT", ""], rows)
    session.out.say(f"[keys] rebinds the console: an action's id and its keys. File: {session.home.config_file}", "dim")
    for problem in loaded.problems:
        session.out.note(f"▲ {problem}")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return '""' if value == "" else "" if value is None else str(value)


@config.command("get")
@click.argument("key", shell_complete=_names)
@pass_session
def get(session: Session, key: str) -> None:
    """The value that holds now."""
    loaded = settings.load(session.home)
    try:
        value = settings.shown(key, settings.value_of(loaded.settings, key))
    except NotFoundError:
        if not key.startswith("keys."):
            raise
        value = None
    document = {"key": key, "value": value, "origin": loaded.origins.get(key, "file")}
    session.out.document(document, lambda: session.out.say(_word(value)))
    for problem in loaded.problems:
        session.out.note(f"▲ {problem}")


@config.command("set")
@click.argument("key", shell_complete=_names)
@click.argument("value")
@pass_session
def set_(session: Session, key: str, value: str) -> None:
    """Write it into config.toml; comments and order stay."""
    understood = settings.set_value(session.home, key, value)
    shown = settings.shown(key, understood)
    session.out.document({"key": key, "value": shown}, lambda: session.out.say(f"{key} = {_word(shown)}"))
    if settings.load(session.home).origins.get(key) == "environment":
        session.out.note(f"▲ {settings.KEYS[key].environment} is set and wins over the file.")
    elif key.split(".")[0] in ("engine", "vast", "rent"):
        session.out.note("It holds when the engine starts next: understudy engine stop.")
