"""Actions called by name: what a typed command means, and how an action is done wherever it lives.

One rule: a command does what the key would do; it only adds arguments.
"""

from __future__ import annotations

import difflib
import inspect
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.actions import parse
from textual.dom import DOMNode

from tui.actions import EVERYWHERE, LOG, MACHINES, MARKET, ROW, Action, Registry, complete

if TYPE_CHECKING:
    from tui.app import Console

HOME_OF: Mapping[str, str] = {MARKET: "market", ROW: "machines", MACHINES: "machines", LOG: "log"}
"""The panel in which an action works that was called by name from elsewhere."""


async def perform(console: Console, action: Action, arguments: Sequence[str] = ()) -> None:
    """Do an action, going to its panel first when it needs another; says so where it does not apply."""
    node = target(console, action)
    if node is None:
        home = next((HOME_OF[place] for place in action.where if place in HOME_OF), None)
        if home is not None and home != console.current_mode:
            await console.switch_mode(home)
            node = target(console, action)
    if node is None:
        console.say(f"{action.label} does not apply here.", "warning")
        return
    _, name, parameters = parse(action.do)
    method = getattr(node, f"action_{name}")
    given = tuple(arguments) or parameters
    try:
        inspect.signature(method).bind(*given)
    except TypeError:
        console.say(f"{action.label} does not take {' '.join(arguments) or 'no argument'}: {action.help}", "warning")
        return
    result = method(*given)
    if inspect.isawaitable(result):
        await result


def target(console: Console, action: Action) -> DOMNode | None:
    """Who does the action now: the app, or the nearest of the focused widget, what it is in, and the panel."""
    name = f"action_{parse(action.do)[1]}"
    if EVERYWHERE in action.where:
        return console if hasattr(console, name) else None
    panel = console.panel
    if panel is None or not set(action.where) & set(panel.places()):
        return None
    focused = panel.focused
    chain: list[DOMNode] = list(focused.ancestors_with_self) if focused is not None else [panel]
    return next((node for node in chain if node is not console and hasattr(node, name)), None)


def completions(console: Console, text: str) -> list[str]:
    """What a half-typed command can become: names of actions, then of themes and workspaces."""
    head, space, last = text.rpartition(" ")
    if not space:
        return complete(text, console.registry)
    state = console.model.state
    names = [*console.theme_names] if head == "theme" else [*state.workspaces, *state.machines]
    return [f"{head} {name}" for name in sorted(names) if name.startswith(last)]


def understand(text: str, registry: Registry) -> tuple[Action | None, list[str]]:
    """The action and the arguments of a typed command; an action may also be called by its command line verb."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    if not words:
        return None, []
    for length in (2, 1):
        verb = " ".join(words[:length])
        for action in registry.actions:
            if len(words) >= length and (verb in action.names or (length == 2 and action.verb == verb)):
                return action, words[length:]
    return None, words


async def do_command(console: Console, text: str) -> None:
    """Do a typed command, or say which ones are near."""
    action, arguments = understand(text, console.registry)
    if action is not None:
        await console.perform(action, arguments)
        return
    known = [name for one in console.registry.actions for name in one.names]
    near = difflib.get_close_matches(arguments[0] if arguments else text, known, n=3)
    console.say(
        f"There is no command {text!r}." + (f" Near: {', '.join(near)}." if near else " ? lists them."), "warning"
    )
