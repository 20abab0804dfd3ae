"""Every action of the console, once. Its one rule: a key, a label or a help line that is not from here is not there.

The registry feeds the key line, the help, the palette, the command bar and its completion, and the bindings themselves.
The operator rebinds by action id in ``[keys]`` of the configuration; a clash is a sentence, and that line is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

EVERYWHERE, LIST, ROW, MARKET, MACHINES, LOG, DIALOG = (
    "everywhere",
    "list",
    "row",
    "market",
    "machines",
    "log",
    "dialog",
)
"""Places. A place is where a key is listened to: the app, a table, a row's panel, one panel, a log pane, a dialog."""

SCENES: Mapping[str, tuple[str, ...]] = {
    "overview": (ROW, LIST, EVERYWHERE),
    "market": (MARKET, LIST, EVERYWHERE),
    "machines": (ROW, MACHINES, LIST, EVERYWHERE),
    "machine": (ROW, MACHINES, LIST, EVERYWHERE),
    "machine log": (ROW, MACHINES, LOG, EVERYWHERE),
    "log": (LOG, EVERYWHERE),
    "dialog": (DIALOG,),
}
"""Which places listen at once; within a scene a key has one meaning."""

FORBIDDEN = frozenset(f"ctrl+{letter}" for letter in "abjoqsz")
"""Keys of tmux, screen, flow control and job control: never ours."""
NEVER_DESTRUCTIVE = "ctrl+d"
"""People leave shells with it."""
INSIDE = "it moves within the console; a script has nothing to move"


@dataclass(frozen=True)
class Action:
    """One thing the operator can do.

    ``do`` is the method behind it in Textual's form (``app.pause``, ``move(-1)``, ``rent``). ``verb`` is the command
    line's name for it; an action without one says why in ``no_verb``. ``rank`` orders the key line, 0 keeps out of it.
    ``dangerous`` asks before it acts; ``reversible`` acts at once and can be undone.
    """

    id: str
    keys: tuple[str, ...]
    label: str
    help: str
    where: tuple[str, ...]
    do: str
    verb: str = ""
    no_verb: str = ""
    dangerous: bool = False
    reversible: bool = False
    rank: int = 0
    lab_only: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the command bar accepts for it."""
        return (self.id, *self.aliases)


def _a(id: str, keys: str, label: str, help: str, where: str | tuple[str, ...], do: str, **more: Any) -> Action:
    places = (where,) if isinstance(where, str) else where
    if "verb" not in more:
        more.setdefault("no_verb", INSIDE)
    return Action(id, tuple(keys.split()), label, help, places, do, **more)


READ = (LIST, LOG)

ACTIONS: tuple[Action, ...] = (
    _a(
        "overview",
        "1",
        "overview",
        "Show what runs, costs and happens.",
        EVERYWHERE,
        "app.panel('overview')",
        verb="status",
    ),
    _a("market", "2", "market", "Show what can be rented now.", EVERYWHERE, "app.panel('market')", verb="offers"),
    _a(
        "machines",
        "4",
        "machines",
        "Show the rented machines.",
        EVERYWHERE,
        "app.panel('machines')",
        verb="machines list",
    ),
    _a("log", "0", "log", "Show everything that happened.", EVERYWHERE, "app.panel('log')", verb="events"),
    _a("filter", "/", "filter", "Show only the rows that match; esc takes it away.", EVERYWHERE, "app.filter", rank=10),
    _a("command", ":", "command", "Type a command by its name; tab completes.", EVERYWHERE, "app.command", rank=80),
    _a(
        "palette",
        "ctrl+p",
        "palette",
        "Find an action, a machine or a theme.",
        EVERYWHERE,
        "app.command_palette",
        rank=85,
    ),
    _a("help", "? f1", "help", "Show the keys that work here.", EVERYWHERE, "app.help", rank=90),
    _a("quit", "q", "quit", "Leave the console; machines and engine go on.", EVERYWHERE, "app.leave", rank=95),
    _a("drawer", "!", "events", "Open or close the newest events.", EVERYWHERE, "app.drawer", rank=70, verb="events"),
    _a("next-pane", "tab", "next pane", "Move to the next pane.", EVERYWHERE, "app.focus_next"),
    _a("previous-pane", "shift+tab", "previous pane", "Move to the pane before.", EVERYWHERE, "app.focus_previous"),
    _a("back", "escape", "back", "Close what is open; never quits.", EVERYWHERE, "app.retreat"),
    _a("zoom", "z", "zoom", "Give the whole body to this pane, and back.", EVERYWHERE, "app.zoom"),
    _a("pause", "p", "pause", "Hold the picture still; the engine goes on.", EVERYWHERE, "app.pause"),
    _a("row-actions", "a", "actions", "Choose what to do with this row.", EVERYWHERE, "app.row_actions"),
    _a("copy", "y", "copy", "Copy the row as text.", EVERYWHERE, "app.copy_row(False)"),
    _a("copy-json", "Y", "copy JSON", "Copy the row as JSON.", EVERYWHERE, "app.copy_row(True)", verb="show --json"),
    _a("undo", "u", "undo", "Take the last step back while its note is shown.", EVERYWHERE, "app.undo"),
    _a("interrupt", "ctrl+c", "interrupt", "Say how to leave; it ends nothing.", EVERYWHERE, "app.interrupt"),
    _a(
        "theme",
        "",
        "theme",
        "Change the colours: theme NAME.",
        EVERYWHERE,
        "app.theme",
        verb="config set",
        aliases=("colours",),
    ),
    _a("row-up", "up k", "up", "Move up.", READ, "move(-1)"),
    _a("row-down", "down j", "down", "Move down.", READ, "move(1)"),
    _a("page-up", "pageup", "page up", "Move up one page.", READ, "page(-1)"),
    _a("page-down", "pagedown", "page down", "Move down one page.", READ, "page(1)"),
    _a("first", "g home", "first", "Go to the first line.", READ, "edge(False)"),
    _a("last", "G end", "last", "Go to the last line.", READ, "edge(True)"),
    _a("left", "left", "left", "Go left in wide mode.", READ, "sideways(-1)"),
    _a("right", "right", "right", "Go right in wide mode.", READ, "sideways(1)"),
    _a("open", "enter", "open", "Open what the cursor is on.", LIST, "open", verb="show", rank=20),
    _a("mark", "space", "mark", "Mark the row, or take the mark away.", LIST, "mark"),
    _a("invert-marks", "*", "invert marks", "Mark what was not marked.", LIST, "invert_marks"),
    _a("sort", "o", "sort", "Sort by the next column.", LIST, "sort_next", verb="offers --sort", rank=15),
    _a("sort-reverse", "O", "reverse", "Sort in the other direction.", LIST, "sort_reverse"),
    _a("wide", "w", "wide", "Show every column; the arrows go sideways.", LIST, "wide"),
    _a(
        "shell",
        "s",
        "shell",
        "Open a shell on the machine; exit comes back.",
        ROW,
        "shell",
        verb="ssh",
        rank=30,
        aliases=("ssh",),
    ),
    _a(
        "logs",
        "l",
        "logs",
        "Show the newest lines of the machine's log.",
        ROW,
        "logs",
        verb="ssh NAME -- tail",
        rank=35,
    ),
    _a(
        "destroy",
        "x",
        "destroy",
        "Retire the workspace and destroy its machine; asks for the name.",
        ROW,
        "destroy",
        verb="down",
        dangerous=True,
        rank=38,
        aliases=("down",),
    ),
    _a(
        "row-events",
        "e",
        "its events",
        "Show what happened to this row.",
        ROW,
        "row_events",
        verb="events --workspace",
        rank=45,
    ),
    _a(
        "fault",
        "L",
        "lab fault",
        "Make something go wrong with this machine; lab only.",
        ROW,
        "fault",
        verb="lab fault",
        dangerous=True,
        lab_only=True,
    ),
    _a(
        "stop",
        "",
        "stop",
        "Stop the machine; its disk keeps billing.",
        MACHINES,
        "machine_verb('stop')",
        verb="machines stop",
        reversible=True,
    ),
    _a("start", "", "start", "Start a stopped machine.", MACHINES, "machine_verb('start')", verb="machines start"),
    _a(
        "adopt",
        "",
        "adopt",
        "Take a machine of the account that is not ours into care.",
        MACHINES,
        "machine_verb('adopt')",
        verb="machines adopt",
    ),
    _a(
        "rent",
        "r",
        "rent",
        "Show the plan and the price of renting this offer.",
        MARKET,
        "rent",
        verb="up",
        rank=30,
        aliases=("up",),
    ),
    _a("follow", "F", "follow", "Keep the newest line in view.", LOG, "follow", verb="events --follow", rank=20),
    _a("next-match", "n", "next match", "Go to the next match.", LOG, "match(1)", rank=25),
    _a("previous-match", "N", "previous match", "Go to the match before.", LOG, "match(-1)"),
    _a("only-matches", "&", "only matches", "Hide the lines that do not match.", LOG, "only_matches", rank=30),
    _a("timestamps", "T", "timestamps", "Show the time of day, the age, or neither.", LOG, "timestamps", rank=35),
    _a("wrap", "w", "wrap", "Break long lines instead of cutting them.", LOG, "wrap", rank=40),
    _a(
        "confirm",
        "enter",
        "confirm",
        "Do it.",
        DIALOG,
        "confirm",
        rank=10,
        no_verb="it answers a question; --yes does in a script",
    ),
    _a("cancel", "escape", "leave", "Leave it as it is.", DIALOG, "leave", rank=20, no_verb="it answers a question"),
)

_SHOWN = {"escape": "esc", "pageup": "PgUp", "pagedown": "PgDn", "question_mark": "?", "f1": "F1"}


def shown(key: str) -> str:
    """A key as it is written for people: ``^p``, ``esc``, ``/``."""
    if key.startswith("ctrl+"):
        return "^" + key.removeprefix("ctrl+")
    return _SHOWN.get(key, key)


@dataclass(frozen=True)
class Registry:
    """The actions with the operator's own keys, and what was wrong with those."""

    actions: tuple[Action, ...] = ACTIONS
    changed: Mapping[str, str] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()

    def get(self, id: str) -> Action:
        """The action with this id. Raises KeyError where there is none."""
        return self._by_id[id]

    def named(self, name: str) -> Action | None:
        """What the command bar means by a name."""
        return next((action for action in self.actions if name in action.names), None)

    def at(self, places: Iterable[str]) -> list[Action]:
        """The actions of some places, in the order of the table."""
        wanted = set(places)
        return [action for action in self.actions if wanted & set(action.where)]

    @property
    def _by_id(self) -> dict[str, Action]:
        return {action.id: action for action in self.actions}


def rebind(keys: Mapping[str, Any], actions: tuple[Action, ...] = ACTIONS) -> Registry:
    """The registry with the keys of the configuration; several keys of one action are separated by commas or spaces.

    A line that names no action, a forbidden key or a key that is taken in the same scene is left out, with a sentence.
    """
    table = {action.id: action for action in actions}
    changed: dict[str, str] = {}
    complaints: list[str] = []
    for id, value in keys.items():
        complaint = _refusal(table, id, value)
        if complaint:
            complaints.append(complaint)
            continue
        wanted = tuple(str(value).replace(",", " ").split())
        table[id] = _with_keys(table[id], wanted)
        changed[id] = ",".join(wanted)
    for id, sentence in _clashes(table, changed):
        table[id] = next(action for action in actions if action.id == id)
        del changed[id]
        complaints.append(sentence)
    return Registry(tuple(table.values()), changed, tuple(complaints))


def _refusal(table: Mapping[str, Action], id: str, value: object) -> str:
    if id not in table:
        return f"keys.{id}: there is no such action; see ? for their names."
    if not isinstance(value, str) or not value.strip():
        return f'keys.{id}: a key is written as text, such as "x" or "ctrl+e".'
    for key in value.replace(",", " ").split():
        if key in FORBIDDEN:
            return f"keys.{id}: {key} belongs to the terminal; it was left as it is."
        if key == NEVER_DESTRUCTIVE and table[id].dangerous:
            return f"keys.{id}: {key} leaves shells; nothing that destroys is put there."
    return ""


def _with_keys(action: Action, keys: tuple[str, ...]) -> Action:
    fields = {name: getattr(action, name) for name in action.__dataclass_fields__}
    return Action(**{**fields, "keys": keys})


def _clashes(table: Mapping[str, Action], changed: Mapping[str, str]) -> list[tuple[str, str]]:
    """The rebound actions whose key has another meaning in one of their scenes."""
    found: dict[str, str] = {}
    for key, one, other in conflicts(table.values()):
        loser, keeper = (one, other) if one.id in changed else (other, one)
        if loser.id in changed:
            found.setdefault(loser.id, f"keys.{loser.id}: {key} is already {keeper.label!r}; it was left as it is.")
    return list(found.items())


def conflicts(actions: Iterable[Action]) -> list[tuple[str, Action, Action]]:
    """Keys with two meanings in one scene."""
    listed = list(actions)
    found: list[tuple[str, Action, Action]] = []
    for places in SCENES.values():
        taken: dict[str, Action] = {}
        for action in listed:
            if not set(places) & set(action.where):
                continue
            for key in action.keys:
                other = taken.setdefault(key, action)
                if other is not action and (key, other, action) not in found:
                    found.append((key, other, action))
    return found


def complete(text: str, registry: Registry) -> list[str]:
    """The names of actions that a half-typed command can become."""
    return sorted(name for action in registry.actions for name in action.names if name.startswith(text))
