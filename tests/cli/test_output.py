"""What an answer is made of: JSON that any reader takes and that drives no terminal, and amounts that are numbers."""

from __future__ import annotations

import json

import pytest
from rich.text import Text

from core.cli.main import run
from core.cli.output import Output, _fitting

HOSTILE = "a\x1b]0;x\x07b\x9b31mc\u202ed\u2066e\U000e0041f\x7f"


def test_json_drives_no_terminal_and_loses_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Output(json=True).line({"name": HOSTILE, "plain": "Zürich – 東京"})
    written = capfdbinary.readouterr().out
    assert json.loads(written) == {"name": HOSTILE, "plain": "Zürich – 東京"}
    assert written.endswith(b"\n")
    assert written.decode().rstrip("\n").isprintable()
    assert "Zürich – 東京" in written.decode()


def test_a_name_that_is_no_utf8_is_still_json(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Output(json=True).line({"path": "bad\udcff", "failed": ["\udcfe", 1]})
    assert json.loads(capfdbinary.readouterr().out) == {"path": "bad?", "failed": ["?", 1]}


@pytest.mark.parametrize("amount", ["nan", "inf", "-inf"])
def test_what_is_no_number_is_no_limit(amount: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["up", "x", "--gpu", "4090", "--max-usd-per-hour", amount]) == 2
    assert run(["budget", "set", "--usd-per-hour", amount]) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_a_narrow_terminal_loses_columns_and_no_figure() -> None:
    heads = ["NAME", ">$/H", "PLACE", "REASON"]
    rows = [[Text("n" * 30), Text("$0.470"), Text("p" * 20), Text("r" * 60)]]
    assert _fitting(heads, rows, 200, ["PLACE"]) == ([0, 1, 2, 3], 200 - 32 - 8 - 22 - 2)
    assert _fitting(heads, rows, 80, ["PLACE"]) == ([0, 1, 3], 80 - 32 - 8 - 2)
