"""Starting and ending a home's processes: one engine however many ask, and its own last words when it fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core import labfile, launch
from core.domain.errors import EngineError
from core.home import Home


@pytest.fixture
def idle_lab(home: Home) -> Home:
    """A lab home whose lab is up: the smallest world in which an engine starts at once."""
    launch.ensure_lab(home, seed=1, boot_s=1, speed=1, pacing="off")
    return home


def test_many_ask_and_one_engine_starts(idle_lab: Home) -> None:
    with ThreadPoolExecutor(4) as pool:
        hellos = list(pool.map(lambda _: launch.ensure_engine(idle_lab), range(4)))
    assert len({h.pid for h in hellos}) == 1
    assert hellos[0].lab
    assert launch.ensure_engine(idle_lab).pid == hellos[0].pid
    assert launch.stop_engine(idle_lab) == hellos[0].pid
    assert launch.probe(idle_lab) is None
    assert launch.stop_engine(idle_lab) is None


def test_an_engine_that_was_killed_is_started_again(idle_lab: Home) -> None:
    first = launch.ensure_engine(idle_lab)
    os.kill(first.pid, signal.SIGKILL)
    assert launch.ensure_engine(idle_lab).pid != first.pid


def test_an_engine_that_cannot_start_says_why(home: Home) -> None:
    home.create()
    home.lab_mark.touch()
    home.database.mkdir()
    with pytest.raises(EngineError) as failed:
        launch.ensure_engine(home)
    assert "ended at once" in str(failed.value)
    assert str(home.log) in failed.value.hint
    assert "\n" not in str(failed.value)


def test_nobody_answers_on_a_socket_that_was_left(home: Home) -> None:
    home.create()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(home.socket))
    assert launch.probe(home) is None
    home.socket.unlink()


def test_the_lab_is_a_home_for_good_and_its_token_is_private(idle_lab: Home) -> None:
    info = launch.lab(idle_lab)
    assert info is not None
    assert idle_lab.is_lab
    assert info.token not in repr(info)
    assert idle_lab.lab_file.stat().st_mode & 0o077 == 0
    assert not any(info.token in word for word in Path(f"/proc/{info.pid}/cmdline").read_text().split("\0"))
    assert launch.stop_lab(idle_lab) == info.pid
    assert launch.lab(idle_lab) is None
    assert launch.stop_lab(idle_lab) is None
    assert idle_lab.is_lab


def test_a_file_that_a_dead_lab_left_harms_nobody(home: Home) -> None:
    """Its pid may be somebody else's by now."""
    home.create()
    home.lab_dir.mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        about = {"pid": other.pid, "token": "t", "control": "http://127.0.0.1:9", "endpoints": {}}
        home.lab_file.write_text(json.dumps(about))
        assert launch.lab(home) is None
        assert launch.stop_lab(home) is None
        assert other.poll() is None
        other.kill()
    home.lab_file.write_text("{")
    with pytest.raises(EngineError, match="cannot be understood"):
        labfile.read(home)
    home.lab_file.unlink()
