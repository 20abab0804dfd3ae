"""The filter language of `/`. One rule: pure; half a word never hides everything and never raises.

Words are joined by AND. A word is one of

    h100              text anywhere in the row, a flag (`verified`, `spot`) or a part of the world (`eu`, `us`, `asia`)
    gpu:4090          a field has this text; for a number, `n:8` is equality
    $<0.45  vram>=40  a number compared; `$` is the price per GPU-hour. A row without the number does not match
    !word             the opposite
    -f word           the letters of the word in this order, with anything between them
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from core.domain.gpus import SPECS, matches


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


# parts of the world one filters by, as ISO 3166 alpha-2 codes; Europe is the geographic one
REGIONS: dict[str, frozenset[str]] = {
    "eu": _codes(
        "AD AL AT BA BE BG BY CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV MC MD ME MK MT NL NO PL PT "
        "RO RS SE SI SK SM UA XK"
    ),
    "us": _codes("US"),
    "na": _codes("US CA MX"),
    "asia": _codes("AE AM AZ BD CN GE HK ID IL IN JO JP KR KW KZ LK MO MY NP OM PH PK QA SA SG TH TR TW UZ VN"),
    "oceania": _codes("AU NZ"),
    "sa": _codes("AR BO BR CL CO EC PE PY UY VE"),
    "africa": _codes("DZ EG ET GH KE MA MU NA NG RW SN TN TZ UG ZA"),
}
REGION_WORDS = {"europe": "eu", "usa": "us", "emea": "eu"}


class Subject(NamedTuple):
    """What one row offers to the filter. `hay` is casefolded; `texts` and `numbers` are by field name."""

    hay: str
    texts: Mapping[str, str] = {}
    numbers: Mapping[str, float | None] = {}
    flags: frozenset[str] = frozenset()
    country: str | None = None


Test = Callable[[Subject], bool]


@dataclass(frozen=True)
class Filter:
    """A parsed filter. `problem`: a sentence about a word that was not understood and so filters nothing."""

    text: str
    tests: tuple[Test, ...] = ()
    problem: str = ""

    def __call__(self, subject: Subject) -> bool:
        return all(test(subject) for test in self.tests)

    @property
    def empty(self) -> bool:
        return not self.tests


EVERYTHING = Filter("")


@dataclass(frozen=True)
class Fields:
    """What can be asked of a noun: names of text fields, of numbers, and of flags."""

    texts: frozenset[str]
    numbers: frozenset[str]
    flags: frozenset[str] = frozenset()
    regions: bool = False


MARKET = Fields(
    texts=frozenset({"gpu", "provider", "kind", "region", "country", "host", "driver", "id"}),
    numbers=frozenset(
        {"$", "all", "n", "vram", "cpu", "ram", "disk", "rel", "net", "up", "cuda", "age", "value", "ports"}
    ),
    flags=frozenset({"verified", "spot", "on-demand", "known", "new", "blocked", "old"}),
    regions=True,
)
MACHINES = Fields(
    texts=frozenset({"gpu", "provider", "kind", "region", "country", "host", "state", "workspace", "id"}),
    numbers=frozenset({"$", "n", "vram", "util", "temp", "watt", "up"}),
    flags=frozenset({"risk", "lab", "spot", "on-demand", "stranger", "stale", "idle"}),
    regions=True,
)
WORKSPACES = Fields(
    texts=frozenset({"state", "gpu", "machine", "id"}),
    numbers=frozenset({"$", "n", "util", "step", "loss"}),
    flags=frozenset({"risk", "stale"}),
)
EVENTS = Fields(
    texts=frozenset({"kind", "workspace", "machine", "provider", "actor", "operation"}),
    numbers=frozenset({"age", "seq"}),
    flags=frozenset({"info", "good", "warn", "bad"}),
)

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
_ASKED = re.compile(r"([$a-z]+)(<=|>=|:|=|<|>)(.*)", re.IGNORECASE | re.DOTALL)


def parse(text: str, fields: Fields) -> Filter:
    """Never raises. A word still being typed (`gpu:`, `$<`, `!`) filters nothing until there is more of it."""
    words = text.split()
    tests: list[Test] = []
    problem = ""
    while words:
        word = words.pop(0)
        if word == "-f":
            if words:
                tests.append(_fuzzy(words.pop(0)))
            continue
        inverse = word.startswith("!")
        test, trouble = _word(word[1:] if inverse else word, fields)
        problem = problem or trouble
        if test is not None:
            tests.append(_inverse(test) if inverse else test)
    return Filter(text, tuple(tests), problem)


def _word(word: str, fields: Fields) -> tuple[Test | None, str]:
    if not word:
        return None, ""
    asked = _ASKED.fullmatch(word)
    if asked:
        name, sign, value = asked[1].casefold(), asked[2], asked[3]
        if name in fields.numbers:
            return _number(name, sign, value)
        if name in fields.texts and sign in (":", "="):
            return (_text(name, value) if value else None), ""
    return _plain(word.casefold(), fields), ""


def _number(name: str, sign: str, value: str) -> tuple[Test | None, str]:
    if not value or value in ("-", "+", "."):
        return None, ""
    if not _NUMBER.fullmatch(value):
        return None, f"{name}{sign}{value}: {name} is a number, such as {name}{sign}8."
    limit = float(value)
    compare: dict[str, Callable[[float], bool]] = {
        ":": lambda x: x == limit,
        "=": lambda x: x == limit,
        "<": lambda x: x < limit,
        ">": lambda x: x > limit,
        "<=": lambda x: x <= limit,
        ">=": lambda x: x >= limit,
    }
    holds = compare[sign]

    def test(subject: Subject) -> bool:
        number = subject.numbers.get(name)
        return number is not None and holds(number)

    return test, ""


def _text(name: str, value: str) -> Test:
    wanted = value.casefold()
    if name == "gpu":
        known: dict[str, bool] = {}
        # "a10" is an A10 and no A100; half a name ("409") is on its way to one
        whole = any(matches(name, value) for name in SPECS)

        def is_gpu(subject: Subject) -> bool:
            gpu = subject.texts.get("gpu", "")
            if gpu not in known:
                known[gpu] = matches(gpu, value) or (not whole and wanted in gpu.casefold())
            return known[gpu]

        return is_gpu
    return lambda subject: wanted in subject.texts.get(name, "").casefold()


def _plain(word: str, fields: Fields) -> Test:
    if word in fields.flags:
        return lambda subject: word in subject.flags
    region = REGIONS.get(REGION_WORDS.get(word, word)) if fields.regions else None
    if region is not None:
        return lambda subject: (subject.country or "").upper() in region
    return lambda subject: word in subject.hay


def _inverse(test: Test) -> Test:
    return lambda subject: not test(subject)


def _fuzzy(word: str) -> Test:
    pattern = re.compile(".*?".join(re.escape(c) for c in word.casefold()), re.DOTALL)
    return lambda subject: pattern.search(subject.hay) is not None


def country_of(region: str, country: str) -> str:
    """The country's code: as given, or the last word of free text such as `Texas, US`."""
    code = country.strip() or region.rpartition(",")[2].strip()
    return code.upper() if len(code) == 2 else ""
