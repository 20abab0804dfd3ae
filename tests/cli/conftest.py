"""Homes of their own under short paths, and one lab with its engine that the contract tests share."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core import launch
from core.cli.main import run
from core.config import set_value
from core.home import Home, find

PATIENCE_S = 60.0


@dataclass
class Answer:
    """What a verb said: its exit status, its stdout as text and, where it was JSON, as values."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        lines = self.out.splitlines()
        assert len(lines) == 1, f"one JSON document on one line: {self.out!r}"
        return json.loads(lines[0])

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def home() -> Iterator[Home]:
    folder = tempfile.mkdtemp(prefix="us-cli-")
    found = find(folder)
    yield found
    launch.stop_engine(found)
    launch.stop_lab(found)
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNDERSTUDY_HOME", "VAST_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")


Verb = Callable[..., Answer]


@pytest.fixture
def verb(home: Home, capfd: pytest.CaptureFixture[str]) -> Verb:
    """Runs `understudy --home HOME ...` in this process."""

    def call(*words: str, at: Home = home) -> Answer:
        capfd.readouterr()
        status = run(["--home", str(at.state), *words])
        out, err = capfd.readouterr()
        return Answer(status, out, err)

    return call


@pytest.fixture(scope="session")
def lab_home() -> Iterator[Home]:
    """A lab home with its lab and its engine: boots take a second, calls are not paced."""
    folder = Path(tempfile.mkdtemp(prefix="us-lab-"))
    found = find(str(folder))
    set_value(found, "vast.account_poll_s", "1")
    started = launch.start_lab(found, seed=7, boot_s=1.0, speed=1.0, pacing="off", with_parent=True)
    try:
        launch.wait_lab(found, started)
        launch.wait_engine(found, launch.start_engine(found, with_parent=True))
        yield found
    finally:
        launch.stop_engine(found)
        launch.stop_lab(found)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab_verb(lab_home: Home, capfd: pytest.CaptureFixture[str]) -> Verb:
    def call(*words: str) -> Answer:
        capfd.readouterr()
        status = run(["--home", str(lab_home.state), *words])
        out, err = capfd.readouterr()
        return Answer(status, out, err)

    return call


@pytest.fixture
def workspace(lab_verb: Verb) -> str:
    """One workspace for all of this file, rented once: it stays until the home goes."""
    name = "contract"
    known = lab_verb("list", "--json").json["workspaces"]
    if not any(w["name"] == name and w["state"] == "running" for w in known):
        answer = lab_verb("up", name, "--gpu", "4090", "--yes", "--json")
        assert answer.status == 0, answer.err + answer.out
    return name


def eventually(what: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found
