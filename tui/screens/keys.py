"""Keys named in sentences. One rule: a sentence names a key only through here, so that a rebound key reads right."""

from __future__ import annotations

from tui.actions import Registry, shown


def key_of(registry: Registry, action: str) -> str:
    """The first key of an action as people write it; its command where it has no key."""
    keys = registry.get(action).keys
    return shown(keys[0]) if keys else f":{action}"
