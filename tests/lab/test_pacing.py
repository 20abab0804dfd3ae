"""Pacing as the provider does it: per endpoint and identity, and 429s in every shape that clients meet."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from core.lab.pacing import VAST_MIN_INTERVAL_S, Pacer
from tests.lab.running_lab import RunningLab


def test_pacer_counts_per_endpoint_and_identity_and_a_refusal_does_not_move_it() -> None:
    now = [100.0]
    pacer = Pacer(VAST_MIN_INTERVAL_S, lambda: now[0])
    assert pacer.wait_s("create", "me") == 0
    now[0] += 4.0
    assert pacer.wait_s("create", "me") == pytest.approx(0.5)
    assert pacer.wait_s("create", "you") == 0
    assert pacer.wait_s("destroy", "me") == 0
    now[0] += 0.5
    assert pacer.wait_s("create", "me") == 0
    assert pacer.wait_s("search", "me") == pacer.wait_s("search", "me") == 0


def test_real_pacing_answers_429_in_several_shapes(tmp_path: Path) -> None:
    lab = RunningLab(tmp_path / "home", "--no-machines", "--manual-clock").start()
    try:
        answers: list[httpx.Response] = [lab.vast("DELETE", "/api/v0/instances/5/", {}) for _ in range(4)]
    finally:
        lab.close()
    assert answers[0].status_code == 404
    assert {each.status_code for each in answers[1:]} == {429}
    kinds = {each.headers["content-type"] for each in answers[1:]}
    assert kinds == {"application/json", "text/plain; charset=utf-8", "text/html; charset=utf-8"}
    assert any("retry-after" in each.headers for each in answers[1:])
