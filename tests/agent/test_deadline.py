"""The dead man against a real HTTP server: it calls once accepted, retries until then, and never without an order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.agent import deadline as dead_man
from core.agent.log import Log


@contextmanager
def _provider(answers: list[tuple[int, bytes]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    calls: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            calls.append({"path": self.path, "key": self.headers["Authorization"], "body": body})
            status, content = answers[min(len(calls), len(answers)) - 1]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v0/instances/7/", calls
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _order(url: str, in_s: float = 0.0) -> dead_man.Deadline:
    made = dead_man.order({"in_s": in_s, "method": "DELETE", "url": url, "key": "k3y"})
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("answers", "tries"),
    [
        ([(200, b'{"success": true}')], 1),
        ([(404, b'{"error":"no_such_instance"}')], 1),
        ([(200, b'{"success":false,"error":"no_such_instance"}')], 1),
        ([(500, b"x"), (429, b"slow"), (401, b"no"), (302, b""), (200, b"{}")], 5),
        ([(404, b"Invalid user key"), (200, b'{"success":false,"msg":"busy"}'), (200, b"{}")], 3),
    ],
)
def test_it_calls_until_the_provider_has_accepted(tmp_path: Path, answers: list[tuple[int, bytes]], tries: int) -> None:
    waits: list[float] = []
    with _provider(answers) as (url, calls):
        dead_man.carry_out(_order(url), Log(str(tmp_path / "log")), waits.append)
    assert len(calls) == tries
    assert len(waits) == tries - 1
    assert {call["path"] for call in calls} == {"/api/v0/instances/7/"}
    assert calls[0]["key"] == "Bearer k3y"
    assert "k3y" not in (tmp_path / "log").read_text()


def test_it_goes_on_when_nobody_answers(tmp_path: Path) -> None:
    with _provider([(200, b"{}")]) as (url, _):
        pass

    class Enough(Exception):
        pass

    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 6:
            raise Enough

    with pytest.raises(Enough):
        dead_man.carry_out(_order(url), Log(str(tmp_path / "log")), sleep)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_it_survives_on_disk_privately_and_can_be_taken_away(tmp_path: Path) -> None:
    path = str(tmp_path / "deadline.json")
    assert dead_man.load(path) is None
    made = _order("https://console.vast.ai/x", 100.0)
    dead_man.save(path, made)
    again = dead_man.load(path)
    assert again is not None
    assert vars(again) == vars(made)
    assert 90 < again.left_s() <= 100
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert "k3y" not in repr(again)
    dead_man.save(path, dead_man.order({"in_s": None}))
    dead_man.save(path, None)
    assert dead_man.load(path) is None
    Path(path).write_text("{torn")
    assert dead_man.load(path) is None


def test_after_a_restart_of_the_machine_its_clock_counts() -> None:
    made = _order("https://console.vast.ai/x", 100.0)
    other_boot = dead_man.Deadline(made.wall, made.boottime - 1e6, "another-boot", made.method, made.url, made.key)
    assert 90 < other_boot.left_s() <= 100


@pytest.mark.parametrize(
    "changes",
    [
        {"in_s": True},
        {"in_s": -1},
        {"in_s": "5"},
        {"in_s": float("nan")},
        {"in_s": 1e12},
        {"method": "GET"},
        {"url": "http://example.invalid/"},
        {"url": "file:///etc/passwd"},
        {"url": None},
        {"key": "a\nb"},
        {"key": None},
    ],
)
def test_an_order_that_cannot_be_carried_out_is_refused(changes: dict[str, Any]) -> None:
    good = {"in_s": 5, "method": "DELETE", "url": "https://console.vast.ai/x", "key": "k"}
    with pytest.raises(ValueError):
        dead_man.order({**good, **changes})
