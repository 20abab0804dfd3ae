"""What a panel says when it has nothing to show, and what stands above it when that is old.

One rule: empty, loading, failed and stale are four different sentences, each with its age or its next step.
"""

from __future__ import annotations

from tui.render.cells import UNICODE, Glyphs, Line, clock, duration, plain


def empty(what: str, next_step: str, g: Glyphs = UNICODE) -> list[Line]:
    """There is nothing, and that is all right."""
    return [[(plain(what, g), "bold")], [(plain(next_step, g), "muted")]]


def loading(what: str, waited_s: float, g: Glyphs = UNICODE) -> list[Line]:
    """Asked, and not answered yet."""
    return [[(plain(what, g), ""), (f"  {duration(waited_s, g)}", "muted")]]


def failed(reason: str, hint: str, g: Glyphs = UNICODE) -> list[Line]:
    """It did not work: why, and what to do."""
    lines: list[Line] = [[(g.dead + " ", "bad"), (plain(reason, g), "bad")]]
    if hint:
        lines.append([(plain(hint, g), "muted")])
    return lines


def stale(since: float, now: float, reason: str, g: Glyphs = UNICODE, *, hint: str = "") -> Line:
    """The banner over data that is no longer fed; `hint` is the next step, where there is room for it."""
    age = duration(now - since, g)
    text = f" {g.risk} stale since {clock(since, g)} ({age}): {reason} Trying again."
    return [(plain(text, g), "warn bold"), (plain(f"  {hint}" if hint else "", g), "muted")]


def paused(since: float, now: float, g: Glyphs = UNICODE) -> Line:
    """The banner while the operator holds the picture still."""
    return [
        (f" PAUSED {duration(now - since, g)}", "warn bold"),
        (plain("  p goes on; the engine never stopped", g), "muted"),
    ]


def too_small(width: int, height: int) -> Line:
    """The banner in a window in which not everything has its place."""
    return [(f" need 60x15; this is {width}x{height}", "warn bold")]


def asleep(g: Glyphs = UNICODE) -> Line:
    """The banner where the engine runs on a machine that goes to sleep."""
    text = f" {g.risk} this computer sleeps; while it does, nothing is watched. understudy engine install-service"
    return [(plain(text, g), "warn")]
