"""The registry's actions as Textual bindings. Its one rule: no other file makes a binding."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from tui.actions import ACTIONS


def bindings(*places: str) -> list[BindingType]:
    """The bindings of some places; their ids are the action ids, so that the operator's keys can replace them.

    A widget gets the actions of its place, whose methods it has; the app gets those of everywhere.
    """
    found: list[BindingType] = []
    for action in ACTIONS:
        if action.keys and set(places) & set(action.where):
            keys = ",".join(action.keys)
            found.append(Binding(keys, action.do, action.label, show=False, id=action.id, tooltip=action.help))
    return found
