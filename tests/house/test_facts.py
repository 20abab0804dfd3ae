"""Every fact that is said anywhere has its sentence, and every sentence is said somewhere."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator

from core.domain.events import SENTENCES, Fact, sentence, severity
from tests.house.tree import Module, modules

SPEAKERS = ("core/engine", "core/services", "core/operations", "core/store")
SNAKE = re.compile(r"[a-z]+(_[a-z]+)+")


def _said(module: Module) -> Iterator[str]:
    """Kinds in `Said(kind=...)`: written there, or assigned in this module to the name that stands there."""
    for node in ast.walk(module.syntax):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Said":
            for keyword in node.keywords:
                if keyword.arg == "kind":
                    yield from _values(module, keyword.value)


def _values(module: Module, node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _values(module, node.body)
        yield from _values(module, node.orelse)
    elif isinstance(node, ast.Name):
        yield from _assigned(module, node.id)


def _assigned(module: Module, name: str) -> Iterator[str]:
    for node in ast.walk(module.syntax):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            yield from (
                each.value
                for each in ast.walk(node.value)
                if isinstance(each, ast.Constant) and isinstance(each.value, str) and SNAKE.fullmatch(each.value)
            )


def _speakers() -> list[Module]:
    return [module for module in modules("core") if module.path.startswith(SPEAKERS)]


def test_every_fact_that_is_said_has_a_sentence() -> None:
    said = {kind: module.path for module in _speakers() for kind in _said(module)}
    assert len(said) > 30, "the test no longer sees how facts are said"
    assert not {kind: path for kind, path in said.items() if kind not in SENTENCES}


def test_every_sentence_is_said() -> None:
    words = {text for module in _speakers() for _, text in module.strings()}
    made = {
        text.values[0].value
        for module in _speakers()
        for text in ast.walk(module.syntax)
        if isinstance(text, ast.JoinedStr) and isinstance(text.values[0], ast.Constant)
    }
    starts = tuple(str(each) for each in made if re.fullmatch(r"[a-z]+_", str(each)))
    assert not {kind for kind in SENTENCES if kind not in words and not kind.startswith(starts)}


def test_every_sentence_reads_when_nothing_is_known() -> None:
    for kind in SENTENCES:
        text = sentence(Fact(seq=1, at=0.0, kind=kind))
        assert text
        assert "{" not in text
        assert severity(Fact(seq=1, at=0.0, kind=kind)) in ("info", "good", "warn", "bad")


def test_sentences_name_plain_fields() -> None:
    for _, template in SENTENCES.values():
        for _, field, spec, conversion in string.Formatter().parse(template):
            assert field is None or (field.isidentifier() and not spec and not conversion)
