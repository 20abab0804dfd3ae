"""The registry: one meaning a key in one place, nothing of the terminal's, a label, a help and a verb or a reason."""

from __future__ import annotations

import pytest

from tui.actions import (
    ACTIONS,
    DIALOG,
    EVERYWHERE,
    FORBIDDEN,
    LIST,
    LOG,
    NEVER_DESTRUCTIVE,
    SCENES,
    conflicts,
    rebind,
    shown,
)
from tui.app import Console
from tui.commands import understand
from tui.panels import PANELS
from tui.screens.confirm import Sheet
from tui.screens.log import LogPane
from tui.screens.panes import Table


def test_no_key_has_two_meanings_in_one_scene() -> None:
    assert [(key, one.id, other.id) for key, one, other in conflicts(ACTIONS)] == []


def test_no_key_of_the_terminal_is_bound_and_nothing_destroys_on_ctrl_d() -> None:
    for action in ACTIONS:
        assert not FORBIDDEN & set(action.keys), action.id
        assert not (action.dangerous and NEVER_DESTRUCTIVE in action.keys), action.id


def test_every_action_has_a_label_a_help_and_a_verb_or_a_reason() -> None:
    for action in ACTIONS:
        assert action.label, action.id
        assert action.help.endswith("."), action.id
        assert bool(action.verb) != bool(action.no_verb), action.id
        assert set(action.where) <= {place for scene in SCENES.values() for place in scene}, action.id
        assert not (action.dangerous and action.reversible), action.id


def test_ids_and_command_names_are_used_once() -> None:
    names = [name for action in ACTIONS for name in action.names]
    assert len(names) == len(set(names))


def test_every_panel_has_its_action_and_its_key() -> None:
    by_id = {action.id: action for action in ACTIONS}
    for panel in PANELS:
        assert by_id[panel.id].keys == (panel.key,)


def test_whoever_listens_has_the_methods() -> None:
    listeners = {EVERYWHERE: Console, LIST: Table, LOG: LogPane, DIALOG: Sheet}
    for action in ACTIONS:
        name = "action_" + action.do.split("(")[0].removeprefix("app.")
        for place in set(action.where) & set(listeners):
            assert hasattr(listeners[place], name), (action.id, place)


def test_keys_can_be_changed_and_swapped() -> None:
    registry = rebind({"rent": "R, f5", "zoom": "p", "pause": "z"})
    assert registry.complaints == ()
    assert registry.get("rent").keys == ("R", "f5")
    assert registry.changed == {"rent": "R,f5", "zoom": "p", "pause": "z"}
    assert not conflicts(registry.actions)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"fly": "x"}, "no such action"),
        ({"rent": ""}, "written as text"),
        ({"rent": 7}, "written as text"),
        ({"rent": "ctrl+b"}, "belongs to the terminal"),
        ({"destroy": "ctrl+d"}, "leaves shells"),
        ({"rent": "q"}, "q is already 'quit'"),
        ({"quit": "x"}, "x is already 'destroy'"),
        ({"rent": "w"}, "already"),
    ],
)
def test_a_bad_line_is_left_out_with_a_sentence(keys: dict[str, object], words: str) -> None:
    registry = rebind({**keys, "zoom": "Z"})
    assert registry.get("zoom").keys == ("Z",)
    assert any(words in complaint for complaint in registry.complaints)
    assert not conflicts(registry.actions)


def test_keys_are_written_for_people() -> None:
    assert [shown(key) for key in ("ctrl+p", "escape", "x", "pagedown")] == ["^p", "esc", "x", "PgDn"]


def test_a_command_is_a_name_an_alias_or_a_verb_of_the_command_line() -> None:
    registry = rebind({})

    def meant(text: str) -> tuple[str, list[str]]:
        action, arguments = understand(text, registry)
        return (action.id if action else "", arguments)

    assert meant("rent 4711") == ("rent", ["4711"])
    assert meant("down tts") == ("destroy", ["tts"])
    assert meant("machines stop m1") == ("stop", ["m1"])
    assert meant("theme 'my own'") == ("theme", ["my own"])
    assert meant("theme 'half") == ("theme", ["'half"])
    assert meant("dance now") == ("", ["dance", "now"])
