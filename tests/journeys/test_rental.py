"""The steps of `make test-live`, in the lab: offers, budget, rent, shell, copies, figures, a refusal, a proven end."""

from __future__ import annotations

from pathlib import Path

from tests.live.rental import CAP_USD, Operator, give_back, use


def test_a_machine_is_rented_used_and_given_back(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "home")
    try:
        operator.ask("lab", "up", "--boot-s", "2", "--pacing", "off")
        use(operator, tmp_path)
        assert give_back(operator) < CAP_USD
    finally:
        operator.run("engine", "stop")
        operator.run("lab", "down")
