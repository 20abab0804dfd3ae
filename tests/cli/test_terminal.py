"""On a terminal: questions, a live timeline, a shell, and a terminal that is afterwards as it was."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from core import launch
from core.home import Home
from tests.cli.conftest import Verb

PATIENCE_S = 60.0
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[>(][B]?|\x0f")


class Screen:
    """A verb on a terminal of its own."""

    def __init__(self, home: Home, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "core.cli", "--home", str(home.state), *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"},
        )

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            self._read(0.1)
        return self.said

    def status(self) -> int:
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.said
            self._read(0.05)
        while self._read(0.05):
            continue
        return self.process.returncode

    def plain(self) -> str:
        return CONTROL.sub("", self.said).replace("\r", "\n")

    def _read(self, wait_s: float) -> bool:
        if not select.select([self.master], [], [], wait_s)[0]:
            return False
        self.said += os.read(self.master, 65536).decode("utf-8", "replace")
        return True


@pytest.fixture
def rented(lab_home: Home, lab_verb: Verb) -> str:
    """A workspace rented by hand, with the timeline watched."""
    name = "byhand"
    if any(w["name"] == name for w in lab_verb("list", "--json").json["workspaces"]):
        return name
    with Screen(lab_home, "up", name, "--gpu", "4090", "--for", "2h") as screen:
        asked = screen.until("[y/N]")
        assert "an hour" in asked or "/h" in asked
        assert "a day" in asked
        assert "left of the budget" in asked
        screen.type("y\n")
        assert screen.status() == 0
        told = screen.plain()
        for step in ("boot", "SSH", "agent", "check", "ready"):
            assert step in told
        assert f"{name} is ready after" in told
    return name


def test_no_is_no(lab_home: Home, lab_verb: Verb) -> None:
    with Screen(lab_home, "up", "never", "--gpu", "4090") as screen:
        screen.until("[y/N]")
        screen.type("\n")
        assert screen.status() == 4
        assert "nothing was done" in screen.said
    assert lab_verb("show", "never").status == 3


def test_destroying_wants_the_name(lab_home: Home, lab_verb: Verb, rented: str) -> None:
    with Screen(lab_home, "down", rented) as screen:
        asked = screen.until(f"Type {rented}")
        assert "1 machine" in asked
        screen.type("yes\n")
        assert screen.status() == 4
    assert lab_verb("show", rented, "--json").json["state"] == "running"


def test_a_shell_begins_in_the_workspace_and_gives_the_terminal_back(lab_home: Home, rented: str) -> None:
    with Screen(lab_home, "ssh", rented) as screen:
        screen.type('echo "at $PWD, a $(tty | cut -c1-8)"; printf "\\033[?1049h\\033[?25l"; exit 9\n')
        assert screen.status() == 9
        assert "at /workspace, a /dev/pts" in screen.plain() or "workspace, a /dev/pts" in screen.plain()
        assert screen.said.rstrip().endswith("\x0f") or "\x1b[?25h" in screen.said
        assert termios.tcgetattr(screen.slave) == screen.before


def test_a_push_shows_how_far_it_is(lab_home: Home, rented: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(8_000_000))
    with Screen(lab_home, "push", rented, str(tmp_path / "big")) as screen:
        assert screen.status() == 0
        assert "0/1 files" in screen.said
        assert "1 file at /workspace/big" in screen.plain() or "1 file at" in screen.plain()


def test_ctrl_c_stops_watching_and_never_the_operation(lab_home: Home, lab_verb: Verb) -> None:
    with Screen(lab_home, "up", "watched", "--gpu", "4090", "--yes") as screen:
        screen.until("boot")
        os.killpg(screen.process.pid, signal.SIGINT)
        assert screen.status() == 130
        hint = re.search(r"operations show (\S+) --watch", screen.plain())
        assert hint is not None
        assert "Traceback" not in screen.said
    assert lab_verb("operations", "show", hint[1], "--watch", "--json").json["state"] == "done"
    assert lab_verb("down", "watched", "--yes").status == 0


def test_watching_survives_the_engines_death(lab_home: Home, lab_verb: Verb) -> None:
    with Screen(lab_home, "up", "survivor", "--gpu", "4090", "--yes") as screen:
        screen.until("boot")
        hello = launch.probe(lab_home)
        assert hello is not None
        os.kill(hello.pid, signal.SIGKILL)
        assert screen.status() == 0, screen.said
    after = launch.probe(lab_home)
    assert after is not None
    assert after.pid != hello.pid
    assert lab_verb("down", "survivor", "--yes").status == 0


def test_an_engine_that_was_stopped_is_not_started_by_who_watches(lab_home: Home, lab_verb: Verb) -> None:
    assert lab_verb("lab", "fault", "stuck-boot", "--provider", "vast").status == 0
    with Screen(lab_home, "up", "waiting", "--gpu", "4090", "--yes") as screen:
        screen.until("boot")
        assert lab_verb("lab", "fault", "heal").status == 0
        assert lab_verb("engine", "stop").status == 0
        assert screen.status() == 5
        assert "was stopped" in screen.plain()
    assert launch.probe(lab_home) is None
    asked = lab_verb("show", "waiting", "--json").json
    assert asked["state"] == "renting"
    assert lab_verb("operations", "show", asked["operation"], "--json").json["state"] == "running"
    assert lab_verb("down", "waiting", "--yes").status == 0
    assert lab_verb("operations", "show", asked["operation"], "--watch", "--json").status == 1
