"""Decoding what a machine sends: the agent's own format, and what a hostile machine makes of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.agent import report, wire
from core.domain.readings import GpuReading, MachineReading, ProcessReading, Progress
from core.remote.agent_frames import (
    AgentHello,
    FrameError,
    LogTail,
    RateLimit,
    decode_message,
    decode_report,
    is_report,
)

GPU: list[Any] = [0, "GPU-1", "RTX 4090", 97.0, 20000.1, 24564.0, 61.0, 411.2, 450.0, 2520.0, None, "P2"]
REPORT: list[Any] = [
    *(0.0, [GPU], [[7, "python train.py", 99.5, 2345.1, 0, 18000.0]], 45.1, 64, 1.5, 100.0, 200.0, 1.0, 2.0),
    *(None, None, 3.0, 4.0, [2.5, 1200, 1.25, 10000], "nvml", None),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=6),
    max_leaves=40,
)


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_the_agents_fields_are_ours_in_order() -> None:
    assert MachineReading.__struct_fields__ == report.REPORT_FIELDS
    assert GpuReading.__struct_fields__ == report.GPU_FIELDS
    assert ProcessReading.__struct_fields__ == report.PROCESS_FIELDS
    assert Progress.__struct_fields__ == report.PROGRESS_FIELDS


def test_a_report_is_dated_by_us() -> None:
    reading = decode_report(_encoded(REPORT), 1000.0)
    assert reading.at == 1000.0
    assert reading.gpus == [GpuReading(*GPU)]
    assert reading.processes[0].gpu_memory_mib == 18000.0
    assert reading.progress == Progress(at=997.5, step=1200, loss=1.25, steps=10000)
    assert (reading.source, reading.problem, reading.disk_read_bps) == ("nvml", None, None)


def test_a_longer_report_of_a_newer_agent_is_read() -> None:
    assert decode_report(_encoded([*REPORT, "new", 1]), 5.0).cores == 64


def test_control_sequences_never_come_through() -> None:
    evil = "\x1b]52;c;aGk=\x07\u202eevil" + "x" * 500
    gpu = [0, evil, evil, *GPU[3:11], evil]
    sent = [0.0, [gpu], [[7, evil, 1.0, 1.0, None, None]], *REPORT[3:15], evil, evil]
    reading = decode_report(_encoded(sent), 5.0)
    pstate = reading.gpus[0].pstate or ""
    texts = [reading.gpus[0].uuid, reading.gpus[0].name, pstate, reading.processes[0].name, reading.source]
    texts.append(reading.problem or "")
    assert all(text.isprintable() and 0 < len(text) <= 200 for text in texts)
    _, hello = decode_message(
        _encoded({"t": "hello", "protocol": 1, "version": "v", "hostname": evil, "gpus": [[0, evil, evil]]})
    )
    assert isinstance(hello, AgentHello)
    assert hello.hostname.isprintable()
    assert hello.gpus[0].name.isprintable()
    _, tail = decode_message(_encoded({"t": "tail", "path": evil, "lines": ["  a\tb", evil] * 600}))
    assert isinstance(tail, LogTail)
    assert len(tail.lines) == 500
    assert tail.lines[0] == "  a b"
    assert all(line.isprintable() for line in tail.lines)


@pytest.mark.parametrize("progress", [[0.0, 2**60, None, None], [0.0, 5, None, -1]])
def test_a_workloads_nonsense_is_no_progress(progress: list[Any]) -> None:
    assert decode_report(_encoded([*REPORT[:14], progress, "nvml", None]), 5.0).progress is None


@pytest.mark.parametrize(
    "payload",
    [
        b"[",
        b"[1e400]",
        b"[NaN]",
        b"[" * 10_000,
        b"[0.0,{}]",
        _encoded([0.0, [GPU] * 65]),
        _encoded([0.0, [], [[1, "x"]] * 65]),
        _encoded([0.0, [[-1, "u", "n"]]]),
        _encoded([0.0, [], [[-5, "n"]]]),
        b"[0.0,[[" + b"9" * 5000 + b',"u","n"]]]',
    ],
)
def test_a_report_that_cannot_be_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError):
        decode_report(payload, 5.0)


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"{}",
        b'{"t":5}',
        b'{"t":"hello"}',
        _encoded({"t": "hello", "protocol": 1, "version": "v", "gpus": [[0, "", ""]] * 65}),
    ],
)
def test_a_message_that_cannot_be_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError):
        decode_message(payload)


@given(JSON)
def test_any_json_is_decoded_or_refused(value: Any) -> None:
    payload = _encoded(value)
    try:
        if is_report(payload):
            reading = decode_report(payload, 9.0)
            assert reading.at == 9.0
            msgspec.json.encode(reading)
        else:
            decode_message(payload)
    except FrameError:
        return


@given(st.binary(max_size=400))
def test_any_bytes_are_decoded_or_refused(payload: bytes) -> None:
    for decode in (lambda: decode_report(payload, 9.0), lambda: decode_message(payload)):
        try:
            decode()
        except FrameError:
            continue


def test_the_rate_limit_allows_a_burst_and_then_twenty_a_second() -> None:
    limit = RateLimit(100.0)
    for _ in range(60):
        limit.take(100.0)
    with pytest.raises(FrameError):
        limit.take(100.0)
    limit = RateLimit(0.0)
    for tick in range(2000):
        limit.take(tick / 20.0)
    assert wire.MAX_UNACKED < 60
