"""What every verb has in hand: the home, how to answer, and the engine. One rule: a verb that spends or destroys asks
here first."""

from __future__ import annotations

import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from core.cli.output import Output
from core.domain.errors import EngineError, IntentRefused, NotFoundError
from core.home import Home
from core.home import find as find_home

if TYPE_CHECKING:
    from core.client import EngineClient

T = TypeVar("T")

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: what ULIDs are written in
_RESENDS = 3


@dataclass
class Session:
    """The three words that are accepted everywhere, and what follows from them."""

    home_argument: str | None = None
    json: bool = False
    yes: bool = False
    _home: Home | None = field(default=None, repr=False)

    @property
    def home(self) -> Home:
        if self._home is None:
            self._home = find_home(self.home_argument)
        return self._home

    @cached_property
    def out(self) -> Output:
        return Output(json=self.json)

    def engine(self) -> EngineClient:
        """The door to the home's engine, which is started when it does not run."""
        from core.client import EngineClient
        from core.launch import ensure_engine

        ensure_engine(self.home)
        return EngineClient(self.home)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        import asyncio  # the list of verbs does without it

        return asyncio.run(work)

    def send(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """One intent: when its answer is lost the same id is sent again, and so acts once."""
        from core.launch import ensure_engine

        for left in reversed(range(_RESENDS)):
            try:
                return self.run(call())
            except EngineError:
                if not left:
                    raise
                ensure_engine(self.home)
        raise AssertionError("unreachable")

    def confirm(self, question: str, *, typed: str | None = None) -> None:
        """Returns when the operator agrees; `typed`: the word that must be typed. Raises IntentRefused."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise IntentRefused(f"{question} Not confirmed.", hint="Without a terminal, --yes confirms.")
        if typed is None:
            agreed = click.confirm(question, default=False, err=True)
        else:
            answer = click.prompt(f"{question} Type {typed} to go on", default="", show_default=False, err=True)
            agreed = answer.strip() == typed
        if not agreed:
            raise IntentRefused("Not confirmed; nothing was done.")


def operation_id(kind: str) -> str:
    """The client's own id of an intent, sortable by time: the same id acts once, however often it is sent."""
    number = (int(time.time() * 1000) << 40) | secrets.randbits(40)
    digits = ""
    for _ in range(18):
        number, rest = divmod(number, 32)
        digits = _CROCKFORD[rest] + digits
    return f"{kind}-{digits}"


# -- words that are accepted everywhere --------------------------------------------------------------------------------


def _take_home(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Session).home_argument = value


def _take_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Session).json = True


def _take_yes(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Session).yes = True


def everywhere() -> list[click.Parameter]:
    """`--home`, `--json`, `--yes`: before the verb, after it, and between a noun and its verb."""
    return [
        click.Option(
            ["--home"],
            metavar="DIR",
            callback=_take_home,
            expose_value=False,
            is_eager=True,
            help="Where all state lives (else $UNDERSTUDY_HOME, else the XDG directories).",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            callback=_take_json,
            expose_value=False,
            is_eager=True,
            help="One JSON document on one line.",
        ),
        click.Option(
            ["--yes"],
            is_flag=True,
            callback=_take_yes,
            expose_value=False,
            is_eager=True,
            help="Answer every question with yes.",
        ),
    ]


class Verb(click.Command):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params.extend(everywhere())


class Noun(click.Group):
    command_class = Verb

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.params.extend(everywhere())


pass_session = click.make_pass_decorator(Session)


class Duration(click.ParamType[float]):
    """`45s`, `30m`, `8h`, `2d`, or together: `1d12h`; a bare number is seconds. Seconds."""

    name = "duration"
    _SECONDS: ClassVar = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if str(value).strip().replace(".", "", 1).isdigit():
            value = f"{value}s"
        total, digits = 0.0, ""
        for letter in str(value).strip().lower():
            if letter.isdigit() or letter == ".":
                digits += letter
            elif letter in self._SECONDS and digits and digits.count(".") < 2 and digits != ".":
                total += float(digits) * self._SECONDS[letter]
                digits = ""
            else:
                digits = "?"
                break
        if digits or not total:
            self.fail(f"{value!r} is no duration; say 45s, 30m, 8h or 2d.", param, ctx)
        return total


class Amount(click.FloatRange):
    """A number that is one: `nan` and `inf` are no amounts, and would be no limits."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        amount = float(super().convert(value, param, ctx))
        if not math.isfinite(amount):
            self.fail(f"{value!r} is no amount.", param, ctx)
        return amount


def workspace_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """For the shell's completion: the names that a running engine knows; it is not started for this."""
    from core.client import EngineClient
    from core.launch import probe

    home = context.ensure_object(Session).home
    if probe(home) is None:
        return []
    try:
        snapshot = Session().run(EngineClient(home).state())
    except EngineError:
        return []
    live = [w.name for w in snapshot.state.workspaces.values() if w.state not in ("retired", "failed")]
    return [name for name in sorted(live) if name.startswith(incomplete)]


def not_found(what: str, name: str, verb: str) -> NotFoundError:
    return NotFoundError(f"There is no {what} '{name[:80]}'.", hint=f"Those that are: understudy {verb}.")


def is_terminal() -> bool:
    """Whether someone looks at stderr, where progress and questions go."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
