"""The engine's door: who may come in, what a malformed request hears, and that there is one engine."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
from uvicorn.server import ServerState

from core.client import EngineClient
from core.domain import api
from core.domain.errors import EngineError, IntentRefused, NotFoundError
from core.engine.permission import allow
from core.engine.socket import SameUserProtocol, listen, user_name
from core.home import Home
from tests.engine.running_engine import ROOT, RunningEngine, fresh

NOBODY = 65534


def ask(path: Path, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request as another program would make it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    head_bytes, _, rest = data.partition(b"\r\n\r\n")
    return int(head_bytes.split()[1]), rest


def test_the_socket_and_all_files_are_the_operators_alone(engine: RunningEngine) -> None:
    assert engine.home.socket.stat().st_mode & 0o777 == 0o600
    home = engine.home
    for path in (home.database, home.operations_database, home.telemetry_database, home.log, home.lock, home.identity):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_another_user_is_hung_up_on_before_a_word_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's word against the server's own uid, which is made another one here."""
    words: list[bytes] = []
    monkeypatch.setattr(SameUserProtocol, "data_received", lambda self, data: words.append(data))
    door = listen(tmp_path / "s")
    monkeypatch.setattr("core.engine.socket.os.getuid", lambda: peer + 1)
    peer = os.geteuid()
    config = uvicorn.Config(lambda *_: None, log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: SameUserProtocol(config, ServerState(), {}), sock=door)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    server.close()
    await server.wait_closed()
    assert words == []


if os.geteuid() == 0:

    def test_another_user_of_this_system_is_cut_off(engine: RunningEngine) -> None:
        opened = {path: path.stat().st_mode for path in [engine.home.socket, *engine.home.socket.parents][:-2]}
        for path, mode in opened.items():
            path.chmod(mode | 0o007)  # even with the way open, the door asks the kernel
        code = (
            "import os, socket, sys\n"
            f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
            "s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1])\n"
            "try:\n"
            "    s.sendall(b'GET /hello HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(100))\n"
            "except OSError as e: print('cut', e.errno)\n"
        )
        try:
            command = [sys.executable, "-c", code, str(engine.home.socket)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            for path, mode in opened.items():
                path.chmod(mode)
        assert done.stdout.startswith(("cut", "b''")), done.stdout + done.stderr


def test_only_the_owner_may_change_anything() -> None:
    allow(user_name(os.getuid()), "rent", "x")
    with pytest.raises(IntentRefused, match="somebody may not rent x"):
        allow("somebody", "rent", "x")


def test_a_second_engine_is_refused_with_the_pid_of_the_first(engine: RunningEngine) -> None:
    command = [sys.executable, "-m", "core.engine", "run", "--home", str(engine.home.state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode != 0
    assert f"already runs for this home (pid {engine.pid})" in done.stderr
    assert "Traceback" not in done.stderr
    assert ask(engine.home.socket, "GET", "/hello")[0] == 200


def test_its_api_is_described(engine: RunningEngine) -> None:
    status, body = ask(engine.home.socket, "GET", "/schema/openapi.json")
    assert status == 200
    described: dict[str, Any] = msgspec.json.decode(body)
    assert {"/hello", "/state", "/events", "/intents/up", "/intents/down"} <= set(described["paths"])
    assert ask(engine.home.socket, "GET", "/schema")[0] == 200


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "/intents/up", b"{", 400),
        ("POST", "/intents/up", b'{"operation": "x"}', 400),
        ("POST", "/intents/down", b'{"operation": "x", "nmae": "a"}', 400),
        ("POST", "/intents/down", b'{"operation": "../x", "name": null}', 409),
        ("POST", "/intents/down", b'{"operation": "x", "name": "nobody"}', 404),
        ("GET", "/machines/m-nothing/log", b"", 404),
        ("GET", "/journal?limit=many", b"", 400),
        ("GET", "/offers?sort=colour", b"", 400),
        ("GET", "/nowhere", b"", 404),
        ("DELETE", "/intents/up", b"", 405),
    ],
)
def test_what_is_not_understood_is_answered_in_a_sentence(
    engine: RunningEngine, method: str, target: str, body: bytes, status: int
) -> None:
    got, answer = ask(engine.home.socket, method, target, body)
    assert got == status, answer
    problem = msgspec.json.decode(answer, type=api.Problem)
    assert problem.message.endswith(".") or ":" in problem.message
    assert "Traceback" not in problem.message


async def test_errors_cross_the_socket_as_what_they_were(engine: RunningEngine) -> None:
    with pytest.raises(NotFoundError) as missing:
        await engine.client.down(api.DownIntent(operation=fresh(), name="nobody"))
    assert "understudy list" in missing.value.hint
    with pytest.raises(IntentRefused):
        await engine.client.fault(api.FaultIntent(operation=fresh(), name="no-such-fault"))


async def test_a_console_of_another_version_hears_one_sentence(
    engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PROTOCOL", 9)
    monkeypatch.setattr(api, "PROTOCOL_OLDEST", 9)
    with pytest.raises(EngineError, match=r"speaks protocol 1-1, this console 9-9") as refused:
        await engine.client.hello()
    assert "engine stop" in refused.value.hint


async def test_no_engine_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not running") as gone:
        await EngineClient(Home(tmp_path, tmp_path)).hello()
    assert "engine start" in gone.value.hint
