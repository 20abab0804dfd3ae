"""Themes: the shipped ones can be read, a bad one is a sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from textual.color import Color

from tui import themes

SHIPPED = {"dusk", "paper", "contrast", "okabe", "ansi16"}


def test_five_themes_are_shipped_without_complaint() -> None:
    loaded = themes.load()
    assert set(loaded.themes) == SHIPPED
    assert loaded.complaints == []


@pytest.mark.parametrize("name", sorted(SHIPPED - {"ansi16"}))
def test_text_is_readable(name: str) -> None:
    theme = themes.load().themes[name]
    least = 7.0 if name == "contrast" else 4.5
    surface = Color.parse(str(theme.surface))
    palette = {
        key: str(getattr(theme, key)) for key in ("foreground", "primary", "accent", "warning", "error", "success")
    }
    roles = {role: theme.variables[f"role-{role}"] for role in themes.TEXT_ROLES}
    for key, value in {**palette, **roles}.items():
        colour = Color.parse(value.split()[0])
        assert themes.contrast(colour, surface) >= least, (key, round(themes.contrast(colour, surface), 2))
        for background in ("zebra", "head-bg", "select-blur"):
            under = Color.parse(theme.variables[f"role-{background}"])
            assert themes.contrast(colour, under) >= least - 0.5, (key, background)
    selected = Color.parse(theme.variables["role-select"])
    assert themes.contrast(Color.parse(palette["foreground"]), selected) >= least


def test_a_theme_may_be_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[theme]\nprimary = "#ff8800"\n')
    loaded = themes.load(tmp_path)
    assert loaded.complaints == []
    assert loaded.themes["mine"].variables["role-good"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[theme", "Theme bad.toml was left out"),
        ('[theme]\nprimary = "#zzz"', "primary = '#zzz' is not a colour"),
        ('[theme]\nsecondary = "red"', "primary is missing"),
        ('[theme]\nprimary = "red"\ncolour = "red"', "unknown key 'colour'"),
        ('[theme]\nprimary = "red"\n[roles]\nshiny = "red"', "unknown role 'shiny'"),
        ('[theme]\nprimary = "red"\n[roles]\ngood = "red blinking"', "'blinking' is not a colour"),
        ("theme = 3", "theme is not a table"),
        ("\x00", "left out"),
    ],
)
def test_a_bad_file_is_one_sentence_and_the_rest_works(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    loaded = themes.load(tmp_path)
    assert set(loaded.themes) == SHIPPED
    assert len(loaded.complaints) == 1
    assert words in loaded.complaints[0]


def test_a_file_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    assert len(themes.load(tmp_path).complaints) == 1


def test_no_color_wins_and_an_unknown_name_is_said() -> None:
    assert themes.choose("paper", SHIPPED, {"NO_COLOR": "1"}) == ("ansi16", None)
    assert themes.choose("paper", SHIPPED, {}) == ("paper", None)
    assert themes.choose(None, SHIPPED, {}) == ("dusk", None)
    name, sentence = themes.choose("neon", SHIPPED, {})
    assert name == "dusk"
    assert sentence is not None
    assert "neon" in sentence


def test_roles_in_style_sheets_are_colours_in_every_theme() -> None:
    sheets = Path(themes.__file__).parent.rglob("*.tcss")
    used = {role for sheet in sheets for role in re.findall(r"\$(role-[a-z0-9-]+)", sheet.read_text("utf-8"))}
    assert used
    for theme in themes.load().themes.values():
        for role in used:
            Color.parse(theme.variables[role])
