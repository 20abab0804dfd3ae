"""`s`: the console steps aside for a real shell over real SSH, and comes back with the terminal whole."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncssh

from core.domain import api
from core.home import Home
from tests.screens.days import full, working
from tests.screens.scenario import Scenario
from tests.screens.socket_engine import SocketEngine
from tests.screens.stage import stage
from tests.screens.terminal import Terminal

CONSOLE = (sys.executable, "-m", "tui")
# what a program that was killed leaves on: alternate screen, mouse, bracketed paste, another character set
LEFT_BEHIND = "\x1b[?1049h\x1b[?1003h\x1b[?2004h\x1b(0"


async def a_shell(process: asyncssh.SSHServerProcess[str]) -> None:
    """Greets, makes a mess of the terminal, and waits for a line."""
    process.stdout.write(f"{LEFT_BEHIND}this is the machine\r\n")
    await process.stdin.readline()
    process.exit(0)


@asynccontextmanager
async def a_machine(folder: Path) -> AsyncIterator[api.Endpoint]:
    """An SSH server that knows one key, and how to reach it."""
    host, mine = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    folder.mkdir(mode=0o700, parents=True)
    identity, known = folder / "id_ed25519", folder / "known_hosts"
    mine.write_private_key(identity)
    identity.chmod(0o600)
    accepted = asyncssh.import_authorized_keys(mine.export_public_key().decode())
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host], authorized_client_keys=accepted, process_factory=a_shell
    )
    port = server.get_port()
    alias = "understudy-tts"
    known.write_text(
        f"{alias} {host.export_public_key().decode()}[127.0.0.1]:{port} {host.export_public_key().decode()}"
    )
    try:
        yield api.Endpoint(
            machine="m-k3j9x2qa",
            host="127.0.0.1",
            port=port,
            user="root",
            identity_file=str(identity),
            known_hosts=str(known),
            alias=alias,
            workspace_dir="/workspace",
        )
    finally:
        server.close()
        await server.wait_closed()


@contextmanager
def running(scenario: Scenario, home: Home) -> Iterator[None]:
    """Engine and machine in a thread of their own: the terminal is read by this one."""
    loop, ready, ends = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        engine = SocketEngine(scenario, home)
        async with a_machine(home.state / "keys") as endpoint:
            engine.endpoints["tts"] = endpoint
            await engine.start()
            ready.set()
            await ends.wait()
            await engine.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join()
        loop.close()


def test_a_shell_and_back_to_the_same_row(tmp_path: Path) -> None:
    scenario, _ = working()
    home = Home(tmp_path, tmp_path)
    environment = {"UNDERSTUDY_HOME": str(tmp_path)}
    with running(scenario, home), Terminal(CONSOLE, columns=120, rows=36, environment=environment) as terminal:
        terminal.until(b"tts")
        terminal.quiet(0.4)
        terminal.press(b"s")
        terminal.until(b"this is the machine")
        left = terminal.sent.rindex(b"this is the machine")
        assert b"\x1b[?1049l" in terminal.sent[:left]
        terminal.press(b"exit\r")
        terminal.until(b"back from")
        came_back = terminal.sent[left:]
        assert came_back.index(b"\x1b[!p") < came_back.rindex(b"\x1b[?1049h")
        assert b"\x1b(B" in came_back
        terminal.quiet(0.4)
        terminal.press(b"q")
        assert terminal.ended() == 0
        assert b"Traceback" not in terminal.sent


async def test_a_machine_that_cannot_be_reached_is_said() -> None:
    scenario, past = full()
    async with stage(scenario, past=past) as on:
        await on.press("down", "down", "s")
        assert "cannot be reached: it is booting" in on.said()


async def test_without_a_terminal_of_its_own_the_command_is_said() -> None:
    scenario, past = working()
    async with stage(scenario, past=past) as on:
        await on.press("s")
        assert "understudy ssh tts" in on.said()
