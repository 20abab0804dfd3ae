"""The console in a real terminal: what it sends, what it costs to start, and how it leaves."""

from __future__ import annotations

import asyncio
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.home import Home
from tests.screens.scenario import Scenario
from tests.screens.socket_engine import SocketEngine
from tests.screens.terminal import Terminal

CONSOLE = (sys.executable, "-m", "tui")
FRAME = b"1 Overview"
COLOUR = re.compile(rb"\x1b\[[0-9;]*?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;:]*m")
START_RATIO = 1.3
"""Start to first paint, in CPU, against the bare import of the toolkit: the aim of the bench."""


@contextmanager
def running_engine(home: Home, offers: int) -> Iterator[None]:
    """An engine's socket in a thread of its own: the terminal is read by this one."""
    scenario = Scenario()
    scenario.say("engine_started", version="0.1.0")
    scenario.market(offers)
    loop, ready, ends = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        engine = SocketEngine(scenario, home)
        await engine.start()
        ready.set()
        await ends.wait()
        await engine.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join()
        loop.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, tmp_path)


def at(home: Home) -> dict[str, str]:
    return {"UNDERSTUDY_HOME": str(home.state)}


def test_quit_gives_the_terminal_back(home: Home) -> None:
    with Terminal(CONSOLE, environment=at(home)) as terminal:
        terminal.until(b"opening the console")
        assert FRAME not in terminal.sent
        terminal.until(FRAME)
        terminal.until(b"The engine is not running.")
        terminal.press(b"\x03")
        terminal.until(b"quits the console")
        terminal.press(b"q")
        assert terminal.ended() == 0
        assert terminal.sent.rindex(b"\x1b[?1049l") > terminal.sent.rindex(b"\x1b[?1049h")
        assert b"\x1b[?25h" in terminal.sent[-200:]
        assert b"Traceback" not in terminal.sent


def test_a_key_among_ten_thousand_offers_is_small_and_whole(home: Home) -> None:
    with running_engine(home, 10_000), Terminal(CONSOLE, environment=at(home)) as terminal:
        terminal.until(b"engine ")
        terminal.press(b"2")
        terminal.until(b"10,000")
        terminal.quiet(0.4)
        sizes = []
        for key in (b"j", b"j", b"k", b"\x1b[B", b"j", b"k", b"j"):
            sent = terminal.answer(key)
            frames = sent.split(b"\x1b[?2026h")[1:]
            assert frames
            assert all(b"\x1b[?2026l" in frame for frame in frames)
            assert b"\x1b[2J" not in sent
            sizes.append(min(len(frame) for frame in frames))
        # the middle one: ages that turn in the same moment share a frame with some key
        assert sorted(sizes)[len(sizes) // 2] <= 1500, sizes
        assert len(terminal.answer(b"\x1b[6~")) <= 60_000
        terminal.press(b"q")
        assert terminal.ended() == 0


def test_no_color_sends_none(home: Home) -> None:
    with Terminal(CONSOLE, environment={**at(home), "NO_COLOR": "1"}) as terminal:
        terminal.until(FRAME)
        terminal.until(b"The engine is not running.")
        terminal.quiet()
        assert COLOUR.findall(terminal.sent) == []
        terminal.press(b"q")
        assert terminal.ended() == 0


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}], ids=["dumb"])
def test_a_terminal_that_cannot_is_told_in_one_sentence(home: Home, environment: dict[str, str]) -> None:
    with Terminal(CONSOLE, environment={**at(home), **environment}) as terminal:
        assert terminal.ended() == 2
        assert terminal.sent.decode().strip().splitlines() == [
            "This terminal (TERM=dumb) cannot show the console. The command line does everything: understudy --help."
        ]


def test_without_a_terminal_it_says_so(home: Home) -> None:
    ended = subprocess.run(CONSOLE, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("The console needs a terminal.")
    assert ended.stdout == ""


def _import_cpu_s() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import textual.app"], check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _start_cpu_s(home: Home) -> float:
    with Terminal(CONSOLE, environment=at(home)) as terminal:
        terminal.until(FRAME)
        return terminal.cpu_s()


def test_the_start_costs_little_more_than_the_toolkit(home: Home) -> None:
    _start_cpu_s(home)  # byte code
    # the least of each: noise only adds
    toolkit, start = min(_import_cpu_s() for _ in range(5)), min(_start_cpu_s(home) for _ in range(5))
    assert start / toolkit <= START_RATIO, f"{start:.3f} s against {toolkit:.3f} s"
