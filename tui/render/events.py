"""Facts as lines. One rule: the words are the domain's own (`events.sentence`); here only time, glyph and role."""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.events import Fact, Severity, sentence, severity
from tui.render.cells import UNICODE, Cell, Glyphs, Line, clock, day, plain

ROLE: dict[Severity, str] = {"info": "muted", "good": "good", "warn": "warn", "bad": "bad"}
WORD: dict[Severity, str] = {"info": "info", "good": "good", "warn": "WARN", "bad": "BAD"}


def glyph(of: Severity, g: Glyphs = UNICODE) -> str:
    return {"info": g.info, "good": g.run, "warn": g.risk, "bad": g.dead}[of]


def line(fact: Fact, g: Glyphs = UNICODE) -> Line:
    """`12:04:29 ▲ tts-1: lost: heartbeat silent`."""
    return [(clock(fact.at, g) + " ", "muted"), *untimed(fact, g)]


def untimed(fact: Fact, g: Glyphs = UNICODE) -> Line:
    """The same without the time, for a view that shows times itself."""
    of = severity(fact)
    return [
        (glyph(of, g) + " ", ROLE[of]),
        (plain(sentence(fact).removesuffix(": "), g), "" if of == "info" else ROLE[of]),
    ]


def cells(fact: Fact, g: Glyphs = UNICODE) -> list[Cell]:
    """TIME, SEVERITY, ABOUT, WHAT, WHO, SEQ."""
    of = severity(fact)
    about = fact.workspace or fact.machine or str(fact.detail.get("provider") or "")
    return [
        Cell(clock(fact.at, g), "muted"),
        Cell(f"{glyph(of, g)} {WORD[of]}", ROLE[of]),
        Cell(plain(about, g), ""),
        Cell(plain(sentence(fact), g), "" if of in ("info", "good") else ROLE[of]),
        Cell(plain(fact.actor, g), "muted"),
        Cell(str(fact.seq), "muted"),
    ]


def counts(facts: Iterable[Fact]) -> dict[Severity, int]:
    """How many of each severity."""
    found: dict[Severity, int] = {"info": 0, "good": 0, "warn": 0, "bad": 0}
    for fact in facts:
        found[severity(fact)] += 1
    return found


def as_text(fact: Fact) -> str:
    return f"{day(fact.at)} {WORD[severity(fact)]} {sentence(fact)}"
