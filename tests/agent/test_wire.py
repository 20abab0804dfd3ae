"""Frames: whatever way the bytes are cut, the same payloads come out; nothing gets past a limit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.agent import wire


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.lists(st.integers(1, 50), min_size=1))
def test_any_cut_of_the_stream_gives_the_same_payloads(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(wire.encode(payload) for payload in payloads)
    frames = wire.Frames()
    found: list[bytes] = []
    at = turn = 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        found += frames.feed(stream[at : at + step])
        at, turn = at + step, turn + 1
    assert found == payloads
    assert frames.rest() == b""


@given(st.binary(max_size=2000))
def test_any_bytes_are_frames_or_an_error_and_never_grow(data: bytes) -> None:
    frames = wire.Frames(limit=100)
    try:
        assert all(len(payload) <= 100 for payload in frames.feed(data))
    except wire.WireError:
        return
    assert len(frames.rest()) <= 104


@given(st.binary(max_size=300).filter(lambda noise: wire.MAGIC[:1] not in noise))
def test_login_noise_before_the_mark_is_skipped(noise: bytes) -> None:
    frames = wire.Frames(skip_noise=True)
    assert frames.feed(noise + wire.MAGIC[:5]) == []
    assert not frames.started
    assert frames.feed(wire.MAGIC[5:] + wire.encode(b"{}")) == [b"{}"]
    assert frames.started


def test_noise_without_end_is_an_error() -> None:
    frames = wire.Frames(skip_noise=True)
    assert frames.feed(b"x" * wire.MAX_NOISE) == []
    with pytest.raises(wire.WireError):
        frames.feed(b"x")


def test_limits_hold_at_both_ends() -> None:
    with pytest.raises(wire.WireError):
        wire.encode(b"x" * (wire.MAX_FRAME + 1))
    with pytest.raises(wire.WireError):
        wire.Frames().feed(b"\xff\xff\xff\xff")
    with pytest.raises(wire.WireError):
        wire.Frames().feed(b"\0\0\0\0")
    with pytest.raises(wire.WireError):
        wire.encode_json([math.nan])
