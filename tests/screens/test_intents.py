"""What is typed becomes seconds, and ids are never the same twice."""

from __future__ import annotations

import pytest

from core.operations.timeline import valid_id
from tui.intents import duration_s, operation_id


@pytest.mark.parametrize(
    ("text", "seconds"), [("8h", 28_800), ("90m", 5400), ("1d12h", 129_600), ("1.5h", 5400), (" 2 d ", 172_800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


def test_nothing_typed_is_no_end() -> None:
    assert duration_s("  ") is None


@pytest.mark.parametrize("text", ["8", "h", "eight hours", "0h", "-1h"])
def test_what_is_no_duration_is_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration_s(text)


def test_an_id_says_what_it_is_for() -> None:
    one, other = operation_id("down", "tts"), operation_id("down", "tts")
    assert one.startswith("down-tts-")
    assert one != other


@pytest.mark.parametrize("target", ["tts", "vast:31000096", "a b/ü\x1b[31m", "x" * 200, ":::"])
def test_the_engine_takes_every_id_the_console_makes(target: str) -> None:
    valid_id(operation_id("machine-destroy", target))
