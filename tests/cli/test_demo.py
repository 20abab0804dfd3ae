"""The demo brings everything up by itself and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from core.cli import janitor

PATIENCE_S = 90.0
COMMAND = [sys.executable, "-m", "core.cli"]


def until(what: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@contextmanager
def headless() -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A demo and the one line that it says when it is ready."""
    with subprocess.Popen([*COMMAND, "demo", "--headless"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], PATIENCE_S)[0]
            yield process, json.loads(process.stdout.readline())
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def mentions(home: str) -> list[int]:
    """Processes that have to do with this home."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if any(home in word for word in process.info["cmdline"] or []):
            found.append(process.info["pid"])
    return found


def below(pid: int) -> list[int]:
    """Every process that the lab of this demo runs: its machines do not mention the home."""
    try:
        return [p.pid for p in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def listening(endpoints: dict[str, str]) -> bool:
    for url in endpoints.values():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0:
                return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_it_comes_up_by_itself_and_leaves_nothing_behind(number: signal.Signals) -> None:
    with headless() as (process, ready):
        assert set(ready) == {"home", "socket", "workspace", "endpoints"}
        assert Path(ready["socket"]).exists()
        lab = json.loads(subprocess.check_output([*COMMAND, "--home", ready["home"], "lab", "status", "--json"]))
        machine = lab["machines"][0]
        everybody = {*mentions(ready["home"]), *below(machine["init_pid"]), machine["init_pid"], machine["pid"]}
        assert len(everybody) >= 5
        if number == signal.SIGTERM:
            _watch_it_learn(ready["home"])
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    if number != signal.SIGKILL:
        assert not Path(ready["home"]).exists()
    until(lambda: not Path(ready["home"]).exists())
    until(lambda: not mentions(ready["home"]))
    until(lambda: not any(psutil.pid_exists(pid) for pid in everybody))
    until(lambda: not listening(ready["endpoints"]))


def _watch_it_learn(home: str) -> None:
    """The loss falls, the GPU works, its log is there."""
    words = [*COMMAND, "--home", home, "ssh", "demo", "--", "cat", "logs/progress.jsonl"]

    def steps() -> list[dict[str, Any]]:
        said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        found = [json.loads(line) for line in said.splitlines()]
        return found if len(found) >= 20 else []

    found = until(steps)
    assert found[-1]["loss"] < found[0]["loss"]

    def working() -> bool:
        said = subprocess.check_output([*COMMAND, "--home", home, "machines", "list", "--json"])
        gpus = json.loads(said)["machines"][0]["gpus"]
        return bool(gpus) and gpus[0]["utilization_pct"] > 0 and gpus[0]["memory_used_mib"] > 5000

    until(working)


def test_a_home_with_something_in_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    done = subprocess.run(
        [*COMMAND, "--home", str(tmp_path), "demo", "--headless"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "not empty" in done.stderr
    assert (tmp_path / "mine").read_text() == "keep"


def test_without_a_terminal_it_asks_for_headless() -> None:
    done = subprocess.run([*COMMAND, "demo"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 4
    assert "--headless" in done.stderr


# -- the janitor -------------------------------------------------------------------------------------------------------


def start_janitor(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", Path(janitor.__file__).read_text("utf-8")],
        stdin=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def test_the_janitor_ends_even_who_does_not_listen(tmp_path: Path) -> None:
    directory = tmp_path / "home"
    (directory / "deep").mkdir(parents=True)
    order = tmp_path / "order"
    code = "import signal,sys,time\nsignal.signal(signal.SIGTERM, lambda *_: (open(%r,'a').write(%r), sys.exit()))\n"
    last, first = (
        subprocess.Popen([sys.executable, "-c", code % (str(order), word) + "print(1, flush=True)\ntime.sleep(600)"],
                         stdout=subprocess.PIPE)
        for word in ("last ", "first ")
    )  # fmt: skip
    for process in (last, first):
        assert process.stdout is not None
        assert process.stdout.readline()
    with start_janitor(directory) as cleaner:
        assert cleaner.stdin is not None
        cleaner.stdin.write(f"{directory}\n{last.pid} last\n{first.pid}\n")
        cleaner.stdin.flush()
        assert directory.exists()
        os.kill(cleaner.pid, signal.SIGCONT)
        cleaner.stdin.close()
        for process in (first, last):
            assert process.wait(PATIENCE_S) == 0
            assert process.stdout is not None
            process.stdout.close()
        assert cleaner.wait(PATIENCE_S) == 0
    assert order.read_text() == "first last "
    assert not directory.exists()


def test_the_janitor_leaves_a_pid_that_is_somebody_elses_alone() -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        janitor.end(sleeper.pid, "12345")
        assert sleeper.poll() is None
        janitor.end(sleeper.pid, janitor.started(sleeper.pid))
        assert sleeper.wait(PATIENCE_S) == -signal.SIGTERM
    finally:
        sleeper.kill()
        sleeper.wait()
