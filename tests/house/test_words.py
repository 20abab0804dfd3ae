"""What files are called, what they say of themselves, and what they never say."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house.tree import ROOT, SHIPPED, modules, texts

VAGUE = re.compile(r"(^|_)(utils?|helpers?|common|managers?|misc)($|_)", re.IGNORECASE)
VAGUE_CLASS = re.compile(r"(Manager|Helper|Utils?|Misc)$")
# put together here, so that this file does not say them
LEFT_OPEN = re.compile("|".join(rf"\b{word}\b" for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X")))
STUB = "NotImplemented" + "Error"
ELSEWHERE = re.compile(
    "|".join(
        re.escape(place)
        for place in (
            "../" + "shared",
            str(ROOT) + "/",
            "/root/" + ".",
            "pypi" + ".org",
            "python" + "hosted",
            "npm" + "js.",
            "index" + "-url",
        )
    )
)
COLOUR = re.compile(r"(?<![\w&])#(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{6})\b|\brgba?\(")
STYLE_COLOUR = re.compile(r"(?<![\w&])#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsla?\(")


def test_every_name_says_what_is_inside() -> None:
    parts = {part for module in modules() for part in module.path.removesuffix(".py").split("/")}
    assert not [part for part in parts if VAGUE.search(part)]
    classes = {node.name for module in modules() for node in ast.walk(module.syntax) if isinstance(node, ast.ClassDef)}
    assert not [name for name in classes if VAGUE_CLASS.search(name)]


def test_every_module_says_what_it_is() -> None:
    assert not [module.path for module in modules() if not (ast.get_docstring(module.syntax) or "").strip()]


def test_nothing_is_left_open() -> None:
    assert not [path for path, text in texts() if LEFT_OPEN.search(text)]
    assert not [module.path for module in modules(*SHIPPED) if STUB in module.text]


def test_no_test_is_set_aside() -> None:
    aside = re.compile(r"pytest\.(skip|xfail|importorskip)|mark\.(skip|skipif|xfail)")
    assert not [module.path for module in modules("tests") if aside.search(module.text) and "house" not in module.path]


def test_no_error_is_swallowed_whole() -> None:
    found = [
        f"{module.path}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.syntax)
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and _does_nothing(node)
    ]
    assert not found


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or (isinstance(handler.type, ast.Name) and "Exception" in handler.type.id)


def _does_nothing(handler: ast.ExceptHandler) -> bool:
    return all(
        isinstance(line, ast.Pass | ast.Continue)
        or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in handler.body
    )


def test_nothing_points_out_of_the_tree() -> None:
    found = {path: match.group() for path, text in texts() if (match := ELSEWHERE.search(text))}
    assert not found


@pytest.mark.parametrize("folder", SHIPPED)
def test_colours_live_in_themes(folder: str) -> None:
    found = [
        f"{module.path}:{line} {text!r}"
        for module in modules(folder)
        for line, text in module.strings()
        if COLOUR.search(text)
    ]
    assert not found


def test_style_sheets_name_roles_not_colours() -> None:
    sheets = sorted((ROOT / "tui").rglob("*.tcss"))
    assert sheets
    assert not [path.name for path in sheets if STYLE_COLOUR.search(path.read_text("utf-8"))]
