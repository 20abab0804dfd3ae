"""Frames between a machine and us. Shared by both ends; its one rule: a length is believed only after it is bounded.

A frame is its payload's length (4 bytes, big-endian) and the payload, UTF-8 JSON: an array is a report, an object with
"t" is everything else. Before the first frame the machine writes MAGIC, since login scripts print what they like.
"""

from __future__ import annotations

import json
import struct

PROTOCOL = 1
MAGIC = b"\x00understudy-agent-1\n"
MAX_NOISE = 64 * 1024  # bytes of login noise before MAGIC
MAX_FRAME = 256 * 1024  # 8 GPUs and 32 processes are about 4 KiB
MAX_ORDER = 64 * 1024
MAX_UNACKED = 40  # reports that the machine sends ahead of the last lease: a sleeping reader wakes to a short queue
_LENGTH = struct.Struct(">I")


class WireError(ValueError):
    """The other end does not keep to the format or its limits."""


def encode(payload: bytes) -> bytes:
    """One frame. Raises WireError for a payload over MAX_FRAME."""
    if len(payload) > MAX_FRAME:
        raise WireError(f"a frame of {len(payload)} bytes is over the limit")
    return _LENGTH.pack(len(payload)) + payload


def encode_json(value: object) -> bytes:
    """One frame of compact JSON. Raises WireError for NaN and infinities, which are no JSON."""
    try:
        return encode(json.dumps(value, separators=(",", ":"), allow_nan=False).encode("utf-8"))
    except ValueError as error:
        raise WireError(str(error)) from error


class Frames:
    """Splits a byte stream into payloads. After an error it must not be used any more."""

    def __init__(self, limit: int = MAX_FRAME, skip_noise: bool = False) -> None:
        self._limit = limit
        self._noisy = skip_noise
        self._data = bytearray()

    @property
    def started(self) -> bool:
        """Whether the other end has written MAGIC (or need not)."""
        return not self._noisy

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now. Raises WireError."""
        self._data += data
        if self._noisy and not self._skip_noise():
            return []
        found = []
        start = 0
        end = len(self._data)
        while end - start >= 4:
            (length,) = _LENGTH.unpack_from(self._data, start)
            if not 0 < length <= self._limit:
                raise WireError(f"a frame claims {length} bytes")
            if end - start - 4 < length:
                break
            found.append(bytes(self._data[start + 4 : start + 4 + length]))
            start += 4 + length
        if start:
            del self._data[:start]
        return found

    def rest(self) -> bytes:
        """The part of a frame that has come so far, taken out."""
        data = bytes(self._data)
        self._data.clear()
        return data

    def _skip_noise(self) -> bool:
        at = self._data.find(MAGIC)
        if at < 0:
            if len(self._data) > MAX_NOISE:
                raise WireError("something else than the agent is talking")
            return False
        del self._data[: at + len(MAGIC)]
        self._noisy = False
        return True
