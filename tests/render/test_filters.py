"""The filter language: what it means, and that nothing typed can break it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui import filters
from tui.filters import EVENTS, MACHINES, MARKET, Subject, parse

OFFER = Subject(
    "rtx 4090 vast on-demand norway, no 40017",
    {"gpu": "RTX 4090", "provider": "vast", "kind": "on-demand", "region": "Norway, NO", "host": "40017"},
    {"$": 0.35, "n": 1.0, "vram": 24.0, "rel": 0.991, "cpu": None},
    frozenset({"verified", "on-demand"}),
    "NO",
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4090",
        "NORWAY",
        "gpu:4090",
        "gpu:409",
        "gpu=rtx_4090",
        "$<0.45",
        "$<=0.35 $>=0.35",
        "n:1",
        "eu",
        "europe verified !spot",
        "provider:vast kind:on-demand",
        "rel>0.98 vram>20",
        "!us",
        "!cpu>16",
        "-f r4n",
        "gpu:",
        "$<",
        "!",
        "-f",
        "$<0.45 eu verified !spot",
    ],
)
def test_matches(text: str) -> None:
    assert parse(text, MARKET)(OFFER), text


@pytest.mark.parametrize(
    "text",
    ["h100", "gpu:409x", "$>0.45", "n:8", "us", "asia", "spot", "!verified", "cpu>1", "-f zq", "!4090", "vram<24"],
)
def test_does_not_match(text: str) -> None:
    assert not parse(text, MARKET)(OFFER), text


def test_a_number_that_is_none_is_a_sentence_and_filters_nothing() -> None:
    wanted = parse("vram>much 4090", MARKET)
    assert "vram" in wanted.problem
    assert "number" in wanted.problem
    assert wanted(OFFER)
    assert len(wanted.tests) == 1


def test_a_word_with_a_colon_that_names_no_field_is_text() -> None:
    fact = Subject("ssh 127.0.0.1:40022 reached")
    assert parse("127.0.0.1:40022", EVENTS)(fact)


def test_regions_are_parts_of_the_world_only_where_there_are_places() -> None:
    assert parse("us", EVENTS)(Subject("focus"))
    assert not parse("us", MACHINES)(Subject("focus", country="NO"))


@given(st.text(max_size=60))
def test_nothing_typed_raises(text: str) -> None:
    parse(text, MARKET)(OFFER)
    parse(text, EVENTS)(Subject("x"))


WORDS = st.sampled_from(["4090", "gpu:4090", "$<0.45", "eu", "verified", "spot", "n:8", "rel>0.9", "cpu>1", "zzz"])


@given(st.lists(WORDS, max_size=5), st.lists(WORDS, max_size=5))
def test_words_are_joined_by_and(one: list[str], other: list[str]) -> None:
    both = parse(" ".join(one + other), MARKET)(OFFER)
    assert both == (parse(" ".join(one), MARKET)(OFFER) and parse(" ".join(other), MARKET)(OFFER))


@given(WORDS)
def test_an_inverse_is_the_opposite(word: str) -> None:
    assert parse("!" + word, MARKET)(OFFER) != parse(word, MARKET)(OFFER)


@given(st.text(alphabet="rtx409 va", min_size=1, max_size=6).map(str.strip).filter(bool).filter(lambda t: " " not in t))
def test_fuzzy_finds_at_least_what_text_finds(word: str) -> None:
    if parse(word, EVENTS)(OFFER):
        assert parse(f"-f {word}", EVENTS)(OFFER)


def test_typing_a_filter_letter_by_letter_never_shows_a_problem_for_a_beginning() -> None:
    text = "gpu:4090 $<0.45 eu !spot rel>0.9"
    assert [text[:i] for i in range(len(text)) if parse(text[:i], MARKET).problem] == []


def test_a_whole_name_of_a_gpu_is_that_gpu() -> None:
    a100 = Subject("a100 80gb", {"gpu": "A100 80GB"})
    assert not parse("gpu:a10", MARKET)(a100)
    assert parse("gpu:a100", MARKET)(a100)


@pytest.mark.parametrize(
    ("region", "country", "code"),
    [("Texas, US", "", "US"), ("", "no", "NO"), (", US", "", "US"), ("somewhere", "", "")],
)
def test_country_of_free_text(region: str, country: str, code: str) -> None:
    assert filters.country_of(region, country) == code
