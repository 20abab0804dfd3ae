"""What the agent sends, decoded and bounded. Pure. One rule: what a machine sends is hostile until it is through.

Text is made harmless, lists and numbers have limits, and one report costs tens of microseconds: a thousand machines
send one each second.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from core.domain.readings import GpuReading, MachineReading, Progress
from core.domain.units import clean

MAX_GPUS = 64
MAX_PROCESSES = 64
MAX_TEXT = 200
MAX_NAME = 80
MAX_INT = 2**53
MAX_LOG_LINES = 500
MAX_FRAMES_PER_S = 20.0
MAX_BURST = 60.0


class HelloGpu(msgspec.Struct, frozen=True, array_like=True):
    index: int
    uuid: str
    name: str
    memory_total_mib: float | None = None


class AgentHello(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks there, in its own words: software, isolation, GPUs as the driver names them."""

    protocol: int
    version: str
    boot_id: str = ""
    pid: int = 0
    python: str = ""
    system: str = ""
    hostname: str = ""
    user: str = ""
    home: str = ""
    workspace: str = ""
    isolation: str = ""
    cores: int | None = None
    memory_mib: float | None = None
    disk_mib: float | None = None
    gpus: list[HelloGpu] = []
    driver: str | None = None
    cuda: str | None = None
    source: str = ""
    problem: str | None = None
    deadline_in_s: float | None = None


class MachineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `judge`: what the workspace's disk takes and what the machine has."""

    disk_write_bps: float
    disk_used_mib: float | None = None
    disk_total_mib: float | None = None
    memory_mib: float | None = None
    cores: int | None = None


class LogTail(msgspec.Struct, frozen=True, kw_only=True):
    """The newest log's last lines, made harmless; `path` None when there is no log."""

    path: str | None = None
    lines: list[str] = []


class Envelope(msgspec.Struct, frozen=True):
    """What every frame that is no report has; the rest is decoded by kind."""

    t: str
    id: int | None = None
    message: str = ""


class FrameError(ValueError):
    """A frame that is not what the protocol says."""


_REPORT = msgspec.json.Decoder(MachineReading)
_ENVELOPE = msgspec.json.Decoder(Envelope)
_BODIES: dict[str, msgspec.json.Decoder[Any]] = {
    "hello": msgspec.json.Decoder(AgentHello),
    "facts": msgspec.json.Decoder(MachineFacts),
    "tail": msgspec.json.Decoder(LogTail),
}


def is_report(payload: bytes) -> bool:
    return payload[:1] == b"["


def decode_report(payload: bytes, at: float) -> MachineReading:
    """One report as received at `at` (our clock; the machine's own never counts). Raises FrameError."""
    try:
        reading = _REPORT.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"a report that cannot be read: {clean(str(error), 120)}") from error
    if len(reading.gpus) > MAX_GPUS or len(reading.processes) > MAX_PROCESSES:
        raise FrameError("a report with too many rows")
    force = msgspec.structs.force_setattr
    force(reading, "at", at)
    for gpu in reading.gpus:
        if not (gpu.uuid.isprintable() and gpu.name.isprintable() and len(gpu.uuid) + len(gpu.name) <= MAX_NAME):
            _clean_gpu(gpu)
        if gpu.pstate is not None:
            force(gpu, "pstate", clean(gpu.pstate, 4))
        if not 0 <= gpu.index < MAX_GPUS:
            raise FrameError("a report about a GPU that cannot be")
    for process in reading.processes:
        if not process.name.isprintable() or len(process.name) > MAX_NAME:
            force(process, "name", clean(process.name, MAX_NAME))
        if not 0 <= process.pid < MAX_INT:
            raise FrameError("a report about a process that cannot be")
    if reading.problem is not None:
        force(reading, "problem", clean(reading.problem, MAX_TEXT))
    if not reading.source.isprintable() or len(reading.source) > MAX_NAME:
        force(reading, "source", clean(reading.source, MAX_NAME))
    if reading.progress is not None:
        force(reading, "progress", _progress(reading.progress, at))
    return reading


def _clean_gpu(gpu: GpuReading) -> None:
    msgspec.structs.force_setattr(gpu, "uuid", clean(gpu.uuid, MAX_NAME))
    msgspec.structs.force_setattr(gpu, "name", clean(gpu.name, MAX_NAME))


def _progress(said: Progress, at: float) -> Progress | None:
    """The machine sends an age; we keep our time. Nonsense from a workload is no progress, and no breach."""
    if not -MAX_INT < said.step < MAX_INT or (said.steps is not None and not 0 <= said.steps < MAX_INT):
        return None
    age_s = min(max(0.0, said.at), at) if math.isfinite(said.at) else 0.0
    return Progress(at=at - age_s, step=said.step, loss=said.loss, steps=said.steps)


def decode_message(payload: bytes) -> tuple[Envelope, Any]:
    """(its kind and number, its body or None) of a frame that is no report. Raises FrameError."""
    try:
        envelope = _ENVELOPE.decode(payload)
        decoder = _BODIES.get(envelope.t)
        body = None if decoder is None else decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"a frame that cannot be read: {clean(str(error), 120)}") from error
    if isinstance(body, AgentHello):
        return envelope, _harmless_hello(body)
    if isinstance(body, LogTail):
        return envelope, _harmless_tail(body)
    return envelope, body


def _harmless_hello(said: AgentHello) -> AgentHello:
    if len(said.gpus) > MAX_GPUS:
        raise FrameError("a hello with too many GPUs")
    changes: dict[str, Any] = {}
    for name in said.__struct_fields__:
        value = getattr(said, name)
        if isinstance(value, str):
            changes[name] = clean(value, MAX_TEXT)
    changes["gpus"] = [
        HelloGpu(gpu.index, clean(gpu.uuid, MAX_NAME), clean(gpu.name, MAX_NAME), gpu.memory_total_mib)
        for gpu in said.gpus
    ]
    return msgspec.structs.replace(said, **changes)


def _harmless_tail(said: LogTail) -> LogTail:
    lines = [clean_line(line) for line in said.lines[-MAX_LOG_LINES:]]
    return LogTail(path=None if said.path is None else clean(said.path, MAX_TEXT), lines=lines)


def clean_line(line: str) -> str:
    """A log line made harmless; unlike `clean` it keeps its indentation and columns."""
    cut = line[: 2 * MAX_NAME * 10].expandtabs(4)
    return "".join(c if c.isprintable() else "·" for c in cut)


class RateLimit:
    """Frames per second: MAX_FRAMES_PER_S on the average, MAX_BURST at once. An honest agent sends one to three."""

    def __init__(self, now: float) -> None:
        self._left = MAX_BURST
        self._at = now

    def take(self, now: float) -> None:
        """One more frame. Raises FrameError when it is over the limit."""
        self._left = min(MAX_BURST, self._left + (now - self._at) * MAX_FRAMES_PER_S)
        self._at = now
        if self._left < 1.0:
            raise FrameError("it floods its channel")
        self._left -= 1.0
