"""How operations are written to their database: JSON with tagged structs and the error tree, never pickle.

One rule: what a recovered operation reads is equal to what the first run had; anything that could not come back as
itself is refused when it is written.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

import msgspec
from dbos import Serializer
from dbos import _serialization as dbos_serialization

from core.domain.errors import UnderstudyError, all_kinds

S = TypeVar("S", bound=msgspec.Struct)

_PLAIN = (str, int, float, bool, type(None))
_STRUCTS: dict[str, type[msgspec.Struct]] = {}


class RecordedError(Exception):
    """An error outside our tree that a finished step had recorded; `kind` is the name of its class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def durable(cls: type[S]) -> type[S]:
    """Registers a Struct that operations may take, return and keep."""
    _STRUCTS[cls.__name__] = cls
    return cls


def to_plain(value: Any) -> Any:
    """JSON values only. Raises TypeError for what would not come back as itself."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        if "$" in value or not all(isinstance(k, str) for k in value):
            raise TypeError("the keys of a durable dict are strings and never '$'")
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, msgspec.Struct) and type(value).__name__ in _STRUCTS:
        return {"$": type(value).__name__, "v": msgspec.to_builtins(value)}
    if isinstance(value, UnderstudyError):
        return {"$!": type(value).__name__, "message": str(value), "own": to_plain(value.__dict__)}
    if isinstance(value, BaseException):
        return {"$!": type(value).__name__, "message": str(value), "own": {}}
    raise TypeError(f"{type(value).__name__} is not durable: register the Struct with @durable")


def from_plain(value: Any) -> Any:
    if isinstance(value, list):
        return [from_plain(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "$!" in value:
        return _error(value)
    if "$" in value:
        return msgspec.convert(value["v"], _STRUCTS[value["$"]])
    return {k: from_plain(v) for k, v in value.items()}


def _error(value: dict[str, Any]) -> Exception:
    known = all_kinds().get(value["$!"])
    if known is None:
        return RecordedError(value["$!"], value["message"])
    error = known.__new__(known)
    Exception.__init__(error, value["message"])
    error.__dict__.update(from_plain(value["own"]))
    return error


class DurableJson(Serializer):
    """What DBOS writes with."""

    def name(self) -> str:
        return "understudy_json"

    def serialize(self, data: Any) -> str:
        return msgspec.json.encode(to_plain(data)).decode()

    def deserialize(self, serialized_data: str) -> Any:
        return from_plain(msgspec.json.decode(serialized_data))


def forbid_pickle() -> None:
    """DBOS picks the decoder by a column of the row, so a row saying py_pickle would be unpickled: refused.

    Reading only: DBOS must still be able to record the refusal itself as the row's error.
    """

    def refuse(*_: Any) -> NoReturn:
        raise TypeError("pickle is refused in the operations database")

    dbos_serialization.DefaultSerializer.deserialize = refuse  # type: ignore[method-assign, assignment]
