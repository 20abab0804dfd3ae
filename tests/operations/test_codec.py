"""What an operation keeps comes back as itself, or is refused when it is written."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import msgspec
import pytest
from dbos import _serialization as dbos_serialization
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import HostKeyChanged, NoCapacity, Unavailable, all_kinds
from core.domain.workspaces import UpSpec
from core.operations import rent, retire
from core.operations.codec import DurableJson, RecordedError, forbid_pickle
from core.operations.timeline import Outcome

CODEC = DurableJson()
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda k: k not in ("$", "$!")), inner),
    max_leaves=20,
)


def back(value: Any) -> Any:
    return CODEC.deserialize(CODEC.serialize(value))


@given(PLAIN)
def test_plain_values_come_back_equal(value: Any) -> None:
    assert back(value) == value


@given(st.text(), st.booleans(), st.booleans())
def test_an_outcome_comes_back_as_an_outcome(detail: str, ok: bool, final: bool) -> None:
    outcome = Outcome(ok=ok, detail=detail, final=final)
    assert back({"args": [outcome], "kwargs": {}}) == {"args": [outcome], "kwargs": {}}


def test_orders_come_back_as_what_they_were() -> None:
    order = rent.RentOrder(operation="op", workspace="w", spec=UpSpec(gpu="4090", for_s=60.0), actor="me", attempts=4)
    ending = retire.RetireOrder(operation="op", workspaces=["w"], machines=["m-1"], actor="me")
    assert back([order, ending]) == [order, ending]


@pytest.mark.parametrize(
    "value",
    [{1, 2}, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), b"bytes", object(), {1: 2}, {"$": "x"}, UpSpec(gpu="x")],
    ids=["set", "datetime", "bytes", "object", "number as key", "our own mark", "unregistered"],
)
def test_what_could_not_come_back_is_refused_at_once(value: Any) -> None:
    with pytest.raises(TypeError):
        CODEC.serialize(value)


def test_an_error_comes_back_as_the_leaf_it_was() -> None:
    error = back(NoCapacity("gone", provider="vast", operation="create", left_behind="42", hint="try another"))
    assert type(error) is NoCapacity
    assert (str(error), error.left_behind, error.hint, error.provider) == ("gone", "42", "try another", "vast")
    unknown = back(Unavailable("no answer", provider="vast", operation="create"))
    assert unknown.outcome_unknown
    changed = back(HostKeyChanged("other key", machine_id="m-1"))
    assert changed.machine_id == "m-1"


def test_every_error_of_the_tree_is_known_by_name() -> None:
    for kind in all_kinds().values():
        made = kind.__new__(kind)
        Exception.__init__(made, "a sentence")
        assert type(back(made)) is kind


def test_a_foreign_error_keeps_its_name_and_words() -> None:
    error = back(ZeroDivisionError("by nothing"))
    assert isinstance(error, RecordedError)
    assert (error.kind, str(error)) == ("ZeroDivisionError", "by nothing")


def test_a_pickle_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dbos_serialization.DefaultSerializer.deserialize
    monkeypatch.setattr(dbos_serialization.DefaultSerializer, "deserialize", kept)
    forbid_pickle()
    with pytest.raises(TypeError, match="pickle is refused"):
        dbos_serialization.DefaultSerializer().deserialize(pickle.dumps(1).hex())


def test_unknown_marks_do_not_become_objects() -> None:
    with pytest.raises(KeyError):
        CODEC.deserialize(msgspec.json.encode({"$": "os.system", "v": "true"}).decode())
