"""Starting and ending the processes of a home: its engine and, in a lab home, its lab.

One rule: whoever asks first starts it, everybody waits for an answer from it, and a failure is its own last words.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import h11
import msgspec

import core
from core import labfile
from core.domain.api import Hello, Intent
from core.domain.errors import EngineError
from core.home import Home
from core.labfile import LabInfo

ENGINE_WAIT_S = 15.0
LAB_WAIT_S = 20.0
STOP_WAIT_S = 10.0
LOG_KEPT_BYTES = 8 * 1024 * 1024  # a longer log is set aside when the next process starts
_POLL_S = 0.02
_ANSWER_S = 2.0
_RACE_S = 3.0  # another starter may have won: its engine needs so long to answer
_TAIL_BYTES = 16 * 1024
_children: list[subprocess.Popen[bytes]] = []  # they outlive us on purpose; kept so that one that ended is reaped


@dataclass
class Started:
    """A process that this one started: `log_from` is where its own words begin in the log."""

    process: subprocess.Popen[bytes]
    log: Path
    log_from: int


# -- the engine --------------------------------------------------------------------------------------------------------


def probe(home: Home) -> Hello | None:
    """What the home's engine says of itself, or None when nobody answers within 2 s."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(home.socket))
            status, body = _exchange(connection, "GET", "/hello")
        return msgspec.json.decode(body, type=Hello) if status == 200 else None
    except (OSError, h11.ProtocolError, msgspec.DecodeError):
        return None


def start_engine(home: Home, *, with_parent: bool = False) -> Started:
    """Starts the engine and returns at once. With `with_parent` it ends when this thread's process does."""
    arguments = ["-m", "core.engine", "run"]
    if home.config == home.state:  # the XDG directories are found by the engine itself
        arguments += ["--home", str(home.state)]
    if with_parent:
        arguments.append("--with-parent")
    return _start(home, arguments, home.log)


def wait_engine(home: Home, started: Started | None, *, wait_s: float = ENGINE_WAIT_S) -> Hello:
    """Waits until the engine answers. Raises EngineError with the last line of its log when it does not."""
    deadline = time.monotonic() + wait_s
    ended_at: float | None = None
    while True:
        hello = probe(home)
        if hello is not None:
            return hello
        now = time.monotonic()
        if started is not None and ended_at is None and started.process.poll() is not None:
            ended_at = now
        if now >= deadline or (ended_at is not None and now >= ended_at + _RACE_S):
            break
        time.sleep(_POLL_S)
    said = _last_line(started.log, started.log_from) if started else ""
    what = "ended at once" if ended_at is not None else f"did not answer within {wait_s:.0f} s"
    raise EngineError(f"The engine {what}{': ' + said if said else '.'}", hint=f"Its log: {home.log}.")


def ensure_engine(home: Home, *, wait_s: float = ENGINE_WAIT_S) -> Hello:
    """Returns once the home's engine answers, started here when it was not running. Raises EngineError."""
    hello = probe(home)
    return hello if hello is not None else wait_engine(home, start_engine(home), wait_s=wait_s)


def stop_engine(home: Home, *, wait_s: float = STOP_WAIT_S) -> int | None:
    """Asks the engine to stop and waits until its process is gone; returns its pid, None when none ran.

    Machines keep running, and operations go on when an engine is started again. Raises EngineError.
    """
    hello = probe(home)
    if hello is None:
        return None
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(home.socket))
            _exchange(connection, "POST", "/intents/stop-engine", msgspec.json.encode(Intent(operation="stop")))
    except (OSError, h11.ProtocolError):
        if _alive(hello.pid):
            os.kill(hello.pid, signal.SIGTERM)
    if not _gone(hello.pid, wait_s):
        raise EngineError(
            f"The engine (pid {hello.pid}) has not stopped after {wait_s:.0f} s.", hint=f"Its log: {home.log}."
        )
    return hello.pid


# -- the lab -----------------------------------------------------------------------------------------------------------


def lab(home: Home) -> LabInfo | None:
    """The home's lab when it is alive and answers, else None."""
    info = labfile.read(home)
    if info is None or not _alive(info.pid):
        return None
    try:
        status, _ = lab_call(info, "GET", "/lab/status")
    except EngineError:
        return None
    return info if status == 200 else None


def start_lab(
    home: Home,
    *,
    seed: int,
    boot_s: float,
    speed: float,
    pacing: str,
    with_parent: bool = False,
) -> Started:
    """Makes this a lab home for good, starts its lab and returns at once. `boot_s` 0: boots differ, as real ones do."""
    home.create()
    home.lab_mark.touch(mode=0o600)
    home.lab_dir.mkdir(mode=0o700, exist_ok=True)
    home.lab_dir.chmod(0o700)
    arguments = ["-m", "core.lab", "up", "--home", str(home.state), "--seed", str(seed)]
    arguments += ["--speed", f"{speed:g}", "--pacing", pacing]
    if boot_s:
        arguments += ["--boot-s", f"{boot_s:g}"]
    if with_parent:
        arguments.append("--with-parent")
    return _start(home, arguments, home.lab_dir / "lab.log")


def wait_lab(home: Home, started: Started, *, wait_s: float = LAB_WAIT_S) -> LabInfo:
    """Waits until the lab answers. Raises EngineError with the last line of its log when it does not."""
    deadline = time.monotonic() + wait_s
    while True:
        ended = started.process.poll() is not None
        info = lab(home)
        if info is not None:
            return info
        if ended or time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    said = _last_line(started.log, started.log_from)
    what = "ended at once" if ended else f"did not answer within {wait_s:.0f} s"
    raise EngineError(f"The lab {what}{': ' + said if said else '.'}", hint=f"Its log: {started.log}.")


def ensure_lab(home: Home, *, seed: int, boot_s: float, speed: float, pacing: str) -> LabInfo:
    """Returns once the home's lab answers, started here when it was not running. Raises EngineError."""
    info = lab(home)
    if info is not None:
        return info
    return wait_lab(home, start_lab(home, seed=seed, boot_s=boot_s, speed=speed, pacing=pacing))


def stop_lab(home: Home, *, wait_s: float = STOP_WAIT_S) -> int | None:
    """Ends the lab with all its machines; returns its pid, None when none ran. Raises EngineError."""
    info = labfile.read(home)
    if info is None or not _is_lab(info.pid):
        return None
    try:
        lab_call(info, "POST", "/lab/stop")
    except EngineError:
        if _is_lab(info.pid):
            os.kill(info.pid, signal.SIGTERM)
    if not _gone(info.pid, wait_s):
        raise EngineError(
            f"The lab (pid {info.pid}) has not stopped after {wait_s:.0f} s.", hint=f"Its log: {home.lab_dir}/lab.log."
        )
    return info.pid


def lab_call(info: LabInfo, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """One call of the lab's control API: status and body. Raises EngineError when the lab does not answer."""
    url = urlsplit(info.control)
    try:
        with socket.create_connection((url.hostname or "127.0.0.1", url.port or 80), timeout=_ANSWER_S) as connection:
            connection.settimeout(STOP_WAIT_S)
            headers = [("Host", url.netloc), ("Authorization", f"Bearer {info.token}")]
            return _exchange(connection, method, path, body, headers)
    except (OSError, h11.ProtocolError) as e:
        raise EngineError("The lab does not answer.", hint="Start it with: understudy lab up.") from e


# -- processes ---------------------------------------------------------------------------------------------------------


def _start(home: Home, arguments: list[str], log: Path) -> Started:
    """Detached: a session of its own, no terminal, what it says goes to the log."""
    home.create()
    if log.exists() and log.stat().st_size > LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
        begin = out.tell()
        # -P: the working directory is never a place to import from
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
            env=environment(),
            start_new_session=True,
        )
    _children.append(process)
    return Started(process, log, begin)


def environment() -> dict[str, str]:
    """Ours, plus where this very code lies when it runs from a checkout that is not installed."""
    found = dict(os.environ)
    root = Path(core.__file__).resolve().parent.parent
    if root.name not in ("site-packages", "dist-packages"):
        found["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [found.get("PYTHONPATH")])])
    return found


def _last_line(log: Path, begin: int) -> str:
    """The last thing that was said since `begin`: of a traceback that is the error itself."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(begin, end - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    spoken = [line.strip() for line in lines if line.strip()]
    return spoken[-1][:300] if spoken else ""


def _alive(pid: int) -> bool:
    for child in _children:
        child.poll()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is there, and not ours
    return True


def _is_lab(pid: int) -> bool:
    """A file that a killed lab left behind may name a pid that by now is somebody else's."""
    try:
        return b"core.lab" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return sys.platform != "linux" and _alive(pid)


def _gone(pid: int, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while _alive(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _exchange(
    connection: socket.socket,
    method: str,
    path: str,
    body: bytes = b"",
    headers: list[tuple[str, str]] | None = None,
) -> tuple[int, bytes]:
    """One request and its whole answer; the connection is used up."""
    http = h11.Connection(h11.CLIENT)
    fields = [*(headers or [("Host", "understudy")]), ("Content-Length", str(len(body))), ("Connection", "close")]
    if body:
        fields.append(("Content-Type", "application/json"))
    data = http.send(h11.Request(method=method, target=path, headers=fields)) or b""
    data += (http.send(h11.Data(data=body)) or b"") + (http.send(h11.EndOfMessage()) or b"")
    connection.sendall(data)
    status, parts = 0, list[bytes]()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(connection.recv(65536))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return status, b"".join(parts)
