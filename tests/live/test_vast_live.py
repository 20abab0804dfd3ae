"""One real machine at Vast.ai. Run by `make test-live` with VAST_API_KEY set; says what it cost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.live.rental import CAP_USD, Operator, give_back, use

pytestmark = [pytest.mark.live, pytest.mark.timeout(3600)]


def test_a_real_machine_is_rented_used_and_given_back(tmp_path: Path) -> None:
    assert os.environ.get("VAST_API_KEY"), "set VAST_API_KEY to your key"
    operator = Operator(tmp_path / "home")
    try:
        try:
            use(operator, tmp_path)
        finally:
            cost = give_back(operator)
    finally:
        operator.run("engine", "stop")
    sys.stdout.write(f"\nThis run cost ${cost:.4f} by list price and time; traffic is not in it.\n")
    assert cost < CAP_USD
