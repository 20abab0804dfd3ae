"""The daemon by itself: one per machine, ends when alone, keeps a deadline, and a reader that does not keep up."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.agent import deadline as dead_man
from core.agent import wire

REPOSITORY = Path(__file__).parents[2]
START = """\
import os, sys
sys.path.insert(0, {repository!r})
os.chdir({folder!r})
from core.agent import daemon
daemon.ALONE_S, daemon.PERIOD_S = {alone_s}, {period_s}
sys.exit(daemon.serve("v1"))
"""
Starter = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts a daemon in tmp_path, without NVML and in a hurry."""
    started: list[subprocess.Popen[bytes]] = []

    def go(alone_s: float = 60.0, period_s: float = 0.01) -> subprocess.Popen[bytes]:
        code = START.format(repository=str(REPOSITORY), folder=str(tmp_path), alone_s=alone_s, period_s=period_s)
        env = {**os.environ, "HOME": str(tmp_path), "WORKSPACE": str(tmp_path), "LAB_MACHINE": "none-such"}
        started.append(subprocess.Popen([sys.executable, "-c", code], env=env))
        return started[-1]

    yield go
    for child in started:
        child.kill()
        child.wait()


class Reader:
    """A client on the daemon's socket."""

    def __init__(self, folder: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.frames = wire.Frames()
        self.ready: list[Any] = []
        while True:
            try:
                self.socket.connect(str(folder / "agent.sock"))
            except OSError:
                time.sleep(0.02)
            else:
                return

    def next(self) -> Any:
        while not self.ready:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self.ready += [json.loads(payload) for payload in self.frames.feed(data)]
        return self.ready.pop(0)

    def until(self, kind: str) -> tuple[Any, int]:
        """(the next message of a kind, how many reports came before it)."""
        reports = 0
        while True:
            frame = self.next()
            if isinstance(frame, dict) and frame["t"] == kind:
                return frame, reports
            reports += isinstance(frame, list)

    def send(self, **order: Any) -> None:
        self.socket.sendall(wire.encode_json(order))


def test_it_ends_when_it_is_alone_for_too_long(start: Starter) -> None:
    assert start(alone_s=0.1).wait() == 0


def test_a_waiting_deadline_keeps_it(start: Starter, tmp_path: Path) -> None:
    order = dead_man.order({"in_s": 5000, "method": "DELETE", "url": "https://cloud.invalid/x", "key": "k"})
    dead_man.save(str(tmp_path / "deadline.json"), order)
    child = start(alone_s=0.0)
    reader = Reader(tmp_path)
    hello, _ = reader.until("hello")
    assert hello["deadline_in_s"] == pytest.approx(5000, abs=60)
    assert child.poll() is None
    reader.send(t="deadline", id=1, in_s=None)
    reader.until("deadline")
    reader.socket.close()
    assert child.wait() == 0


def test_there_is_one(start: Starter, tmp_path: Path) -> None:
    first = start()
    reader = Reader(tmp_path)
    assert start().wait() == 0
    assert first.poll() is None
    reader.socket.close()


def test_a_stale_socket_is_no_obstacle(start: Starter, tmp_path: Path) -> None:
    first = start()
    Reader(tmp_path).socket.close()
    first.kill()
    first.wait()
    assert (tmp_path / "agent.sock").exists()
    start()
    reader = Reader(tmp_path)
    assert reader.until("hello")[0]["version"] == "v1"
    reader.socket.close()


def test_a_reader_that_gives_no_lease_gets_few_reports_and_every_answer(start: Starter, tmp_path: Path) -> None:
    start()
    reader = Reader(tmp_path)
    for _ in range(wire.MAX_UNACKED):
        while not isinstance(reader.next(), list):
            pass
    reader.send(t="tail", id=5, lines=1)
    answer, more = reader.until("tail")
    assert (answer["id"], more) == (5, 0)
    reader.send(t="lease", received=10)
    reader.send(t="judge", id=6, disk_mib=1)
    assert reader.until("facts")[0]["disk_write_bps"] > 0
    reader.socket.close()


def test_what_is_no_order_is_answered_and_what_is_no_frame_ends_the_reader(start: Starter, tmp_path: Path) -> None:
    child = start()
    reader = Reader(tmp_path)
    for order in ({"t": "dance", "id": 1}, {"t": "lease", "received": "x"}, {"id": 3}):
        reader.send(**order)
        assert reader.until("error")[0]["message"]
    reader.socket.sendall(wire.encode(b"[1]") + wire.encode(b"not json") + wire.encode(b"[" * 5000))
    for _ in range(3):
        reader.until("error")
    reader.socket.sendall(b"\xff\xff\xff\xff")
    with pytest.raises((EOFError, ConnectionError)):
        reader.until("never")
    reader.socket.close()
    again = Reader(tmp_path)
    again.send(t="drain", id=9)
    assert again.until("drained")[0]["id"] == 9
    assert child.wait() == 0
    again.socket.close()


def test_a_fifth_reader_takes_the_place_of_the_oldest(start: Starter, tmp_path: Path) -> None:
    start()
    readers = [Reader(tmp_path) for _ in range(4)]
    for reader in readers:
        reader.until("hello")
    last = Reader(tmp_path)
    last.until("hello")
    with pytest.raises((EOFError, ConnectionError)):
        readers[0].until("never")
    for reader in (*readers, last):
        reader.socket.close()
