"""``themes/*.toml`` become Textual themes with roles. Its one rule: a bad file is one sentence, never a crash.

A theme gives a palette (Textual's own names) and roles, which are what the console paints with. A role that a file
leaves out is made from the palette, so a user's theme may be one line long.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES, Theme

BUNDLED = Path(__file__).resolve().parent.parent / "themes"
"""The shipped themes: beside the package in a checkout and in an installed wheel alike."""
DEFAULT = "dusk"
COLOURLESS = "ansi16"
"""With this theme and NO_COLOR nothing but bold, underline and reverse is sent."""

COLOURS = frozenset(
    [
        "primary",
        "secondary",
        "warning",
        "error",
        "success",
        "accent",
        "foreground",
        "background",
        "surface",
        "panel",
        "boost",
    ],
)
KEYS = frozenset(item.name for item in fields(Theme)) - {"variables"}
WORDS = frozenset(["bold", "dim", "italic", "underline", "reverse", "strike"])
FROM_PALETTE = {
    "good": "success",
    "warn": "warning",
    "bad": "error",
    "accent": "accent",
    "key": "primary",
    "run": "success",
    "boot": "accent",
    "stby": "secondary",
    "risk": "error",
    "money": "accent",
    "head-bg": "panel",
    "select": "panel",
    "select-blur": "panel",
    "zebra": "surface",
    "border": "line",
    "focus": "primary",
    "title": "primary",
    "plot-1": "accent",
    "plot-2": "warning",
    "plot-3": "success",
    "plot-4": "secondary",
}
"""Where a role's colour comes from when the file does not say."""
BLENDED = {"muted": 0.62, "dead": 0.62, "line": 0.25}
"""Roles that are the text colour mixed into the surface, with how much of the text is left."""
BACKGROUNDS = frozenset({"head-bg", "select", "select-blur", "zebra"})
TEXT_ROLES = (
    *("good", "warn", "bad", "accent", "key", "run", "boot", "stby", "risk", "money"),
    *("muted", "dead", "head", "title", "plot-1", "plot-2", "plot-3", "plot-4"),
)
"""Roles that colour text, and so have to be readable on the surface."""


@dataclass(frozen=True)
class Loaded:
    """What came of loading: the themes by name, and one sentence for each file that could not be used."""

    themes: dict[str, Theme]
    complaints: list[str] = field(default_factory=list)


def load(user_folder: Path | None = None, bundled: Path = BUNDLED) -> Loaded:
    """The shipped themes, then the operator's own; a later one of the same name wins."""
    loaded = Loaded({})
    for folder in (bundled, *([user_folder] if user_folder else ())):
        for path in sorted(folder.glob("*.toml")):
            try:
                theme = parse(path.read_text("utf-8"), name=path.stem)
            except (OSError, ValueError) as error:
                loaded.complaints.append(f"Theme {path.name} was left out: {error}.")
            else:
                loaded.themes[theme.name] = theme
    return loaded


def parse(text: str, name: str) -> Theme:
    """A theme from the text of its file.

    Raises ValueError, with the reason as a sentence without its full stop, when the text is no TOML, a key is
    unknown or a colour cannot be read.
    """
    document = tomllib.loads(text)
    palette = _table(document, "theme")
    roles = _table(document, "roles")
    palette.setdefault("name", name)
    if unknown := sorted(set(palette) - KEYS) + sorted(set(document) - {"theme", "roles", "variables"}):
        raise ValueError(f"unknown key {unknown[0]!r}")
    if "primary" not in palette:
        raise ValueError("primary is missing")
    for key in COLOURS & set(palette):
        _colour(key, palette[key])
    for key, value in roles.items():
        _role(key, value)
    variables = {key: str(value) for key, value in _table(document, "variables").items()}
    if palette.get("ansi"):
        # without these two Textual cannot resolve its own style sheet under an ansi theme
        variables = {**BUILTIN_THEMES["ansi-dark"].variables, **variables}
    theme = Theme(**palette)
    return Theme(**palette, variables={**_scrollbars(theme), **variables, **role_variables(theme, roles)})


def _table(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise ValueError(f"{key} is not a table")  # noqa: TRY004 - one kind of error for one kind of mistake
    return dict(table)


def _colour(key: str, value: object) -> Color:
    if not isinstance(value, str):
        raise ValueError(f"{key} is not text")  # noqa: TRY004
    try:
        return Color.parse(value)
    except ColorParseError:
        raise ValueError(f"{key} = {value!r} is not a colour") from None


def _role(key: str, value: object) -> None:
    if key not in {*FROM_PALETTE, *BLENDED, "head", "tab", "mark"}:
        raise ValueError(f"unknown role {key!r}")
    if not isinstance(value, str):
        raise ValueError(f"role {key} is not text")  # noqa: TRY004
    for word in value.split():
        if word not in WORDS:
            _colour(f"role {key}", word)


def role_variables(theme: Theme, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Every role as a variable ``role-NAME``: the given ones, and the others made from the palette."""
    palette = _resolved(theme)
    values = {name: str(palette[source]) for name, source in FROM_PALETTE.items() if source in palette}
    for name, share in BLENDED.items():
        values[name] = "dim" if theme.ansi else _blend(palette["surface"], palette["foreground"], share)
    values["head"] = f"{palette['foreground']} bold"
    values["tab"] = f"{palette['primary']} bold"
    values["mark"] = f"{palette['accent']} bold"
    values.update(given or {})
    values.setdefault("border", values["line"])
    return {f"role-{name}": value for name, value in values.items()}


def _resolved(theme: Theme) -> dict[str, str]:
    """The palette with Textual's own rules applied to what the theme leaves open."""
    made = theme.to_color_system().generate()
    return {key: str(getattr(theme, key) or made[key]) for key in COLOURS if getattr(theme, key) or key in made}


def _blend(background: str, foreground: str, share: float) -> str:
    return Color.parse(background).blend(Color.parse(foreground), share).hex


def _scrollbars(theme: Theme) -> dict[str, str]:
    """Quiet scrollbars: a thumb in the line colour on the surface."""
    if theme.ansi:
        return {}
    palette = _resolved(theme)
    thumb = _blend(palette["surface"], palette["foreground"], 0.3)
    return {
        "scrollbar": thumb,
        "scrollbar-hover": palette["primary"],
        "scrollbar-active": palette["primary"],
        "scrollbar-background": palette["surface"],
        "scrollbar-background-hover": palette["surface"],
        "scrollbar-background-active": palette["surface"],
        "scrollbar-corner-color": palette["surface"],
    }


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio of two colours, 1 to 21, by WCAG 2.1 (relative luminance)."""

    def luminance(colour: Color) -> float:
        def linear(channel: int) -> float:
            share = channel / 255
            return share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4

        return 0.2126 * linear(colour.r) + 0.7152 * linear(colour.g) + 0.0722 * linear(colour.b)

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def choose(wanted: str | None, available: Iterable[str], environment: Mapping[str, str]) -> tuple[str, str | None]:
    """The theme to start with, and a sentence when it is not the one that was asked for.

    ``NO_COLOR`` wins over everything: with any other theme Textual would still send greys.
    """
    names = set(available)
    if environment.get("NO_COLOR"):
        return COLOURLESS, None
    if wanted is None:
        return DEFAULT, None
    if wanted in names:
        return wanted, None
    return DEFAULT, f"There is no theme {wanted!r}; there are {', '.join(sorted(names))}."
