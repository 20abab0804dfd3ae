"""Nothing grows past one thought: files, functions, and the usual length of a function."""

from __future__ import annotations

import pytest

from tests.house.tree import SHIPPED, modules

FILE_LINES = 400
FUNCTION_LINES = 50
FUNCTION_LINES_P95 = 28


def test_no_file_is_longer_than_a_person_reads_at_once() -> None:
    long = {module.path: module.lines for module in modules() if module.lines > FILE_LINES}
    assert not long, "split by meaning"


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{module.path}:{line} {name}": lines
        for module in modules()
        for name, line, lines in module.functions()
        if lines > FUNCTION_LINES
    }
    assert not long


@pytest.mark.parametrize("folder", SHIPPED)
def test_functions_are_short_as_a_rule(folder: str) -> None:
    lengths = sorted(lines for module in modules(folder) for _, _, lines in module.functions())
    assert lengths[int(len(lengths) * 0.95)] <= FUNCTION_LINES_P95
