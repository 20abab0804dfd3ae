"""The tree that the house tests read: every file of ours, parsed once. One rule: what is read is what is shipped."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("core", "tui")
CODE = (*SHIPPED, "tests")
DOCUMENTS = ("README.md", "Makefile", "pyproject.toml", "constraints.txt", ".gitignore", ".ci", ".github", "themes")
_TEXT = frozenset({".py", ".md", ".toml", ".tcss", ".txt", ".yml", ".yaml", ".sh", ".cfg", ".ini", ".svg", ""})


@dataclass(frozen=True)
class Module:
    """One Python file: its path from the root of the tree, its text and its syntax tree."""

    path: str
    text: str
    syntax: ast.Module

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def functions(self) -> Iterator[tuple[str, int, int]]:
        """Name, first line and number of lines of every function, nested ones too."""
        for node in ast.walk(self.syntax):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1

    def strings(self) -> Iterator[tuple[int, str]]:
        """Every string constant with its line; docstrings are not among them."""
        prose = {id(node.value) for node in ast.walk(self.syntax) if isinstance(node, ast.Expr)}
        for node in ast.walk(self.syntax):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                yield node.lineno, node.value


@functools.cache
def modules(*folders: str) -> tuple[Module, ...]:
    """The Python files below these folders, in order; all of ours without an argument."""
    found = []
    for folder in folders or CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text("utf-8")
            found.append(Module(path.relative_to(ROOT).as_posix(), text, ast.parse(text, path)))
    return tuple(found)


@functools.cache
def texts() -> tuple[tuple[str, str], ...]:
    """Path and text of every file that is ours and is text, documents and pictures of tests included."""
    found = []
    for name in (*CODE, *DOCUMENTS):
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix in _TEXT and "__pycache__" not in path.parts:
                found.append((path.relative_to(ROOT).as_posix(), path.read_text("utf-8")))
    return tuple(found)
