"""What Vast.ai's rows mean in our words."""

from __future__ import annotations

from typing import Any

import pytest

from core.providers.vast_rows import InstanceRow, place, state_of


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "running"),
        ({"actual_status": None}, "starting"),
        ({"actual_status": "loading"}, "starting"),
        ({"actual_status": "created"}, "starting"),
        ({"actual_status": "created", "status_msg": "Error: ... OCI runtime create failed: x"}, "dead"),
        ({"actual_status": "exited"}, "dead"),
        ({"actual_status": "offline"}, "dead"),
        ({"actual_status": "unknown"}, "unknown"),
        ({"actual_status": "somethingnew"}, "unknown"),
        ({"actual_status": "exited", "intended_status": "stopped"}, "stopped"),
        ({"actual_status": "stopped", "intended_status": "stopped", "cur_state": "stopped"}, "stopped"),
        ({"actual_status": "exited", "cur_state": "stopped"}, "starting"),
        ({"is_bid": True, "actual_status": "exited", "cur_state": "stopped"}, "paused"),
        (
            {"is_bid": True, "actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped"},
            "paused",
        ),
    ],
)
def test_what_the_status_fields_mean_together(changes: dict[str, Any], state: str) -> None:
    row = InstanceRow(id=1, actual_status="running", intended_status="running", cur_state="running")
    assert state_of(InstanceRow(**{**{f: getattr(row, f) for f in row.__struct_fields__}, **changes})) == state


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Texas, US", ("Texas", "US")),
        (", US", ("", "US")),
        ("Tokyo, JP", ("Tokyo", "JP")),
        ("", ("", "")),
        (None, ("", "")),
        ("Moon", ("Moon", "")),
    ],
)
def test_where_a_host_is(text: str | None, expected: tuple[str, str]) -> None:
    assert place(text) == expected
