"""What people do over SSH with a lab machine, by real clients: OpenSSH, scp, sftp, rsync, asyncssh."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio

from core.lab import rootfs
from core.lab.host import Booted
from tests.lab.machine_rig import Rig, eventually, finish, lab

pytestmark = pytest.mark.asyncio(loop_scope="module")

BIG = os.urandom(1 << 16) * 48  # 3 MiB
TAIL_BYTES = 100_000_000


def isolations() -> list[str]:
    return ["ns", "plain"] if rootfs.probe()[0] == "ns" else ["plain"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=isolations())
async def there(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Rig, Booted]]:
    async with lab(request.param) as rig:
        yield rig, await rig.host.boot(rig.spec("box"))


There = tuple[Rig, Booted]


async def connect(there: There) -> asyncssh.SSHClientConnection:
    rig, booted = there
    return await asyncssh.connect(
        *booted.direct, username="root", client_keys=[str(rig.key)], known_hosts=None, config=[], agent_path=None
    )


async def test_a_big_stdin_comes_back_whole(there: There) -> None:
    rig, booted = there
    back = await rig.ssh(booted, "cat", stdin=BIG)
    assert hashlib.sha256(back.out).digest() == hashlib.sha256(BIG).digest()


async def test_the_tail_of_a_big_output_arrives_when_the_child_exits_first(there: There) -> None:
    rig, booted = there
    back = await rig.ssh(booted, f"head -c {TAIL_BYTES} /dev/zero; printf END")
    assert len(back.out) == TAIL_BYTES + 3
    assert back.out.endswith(b"\0END")


async def test_exit_status_stderr_and_signals_are_passed_on(there: There) -> None:
    rig, booted = there
    ended = await rig.ssh(booted, "echo out; echo err >&2; exit 7")
    assert (ended.status, ended.out, ended.err) == (7, b"out\n", b"err\n")
    assert (await rig.ssh(booted, "kill -9 $$")).status == 255
    async with await connect(there) as connection:
        result = await connection.run("kill -TERM $$")
        assert result.exit_signal is not None
        assert result.exit_signal[0] == "TERM"


async def test_a_client_can_send_a_signal(there: There) -> None:
    async with await connect(there) as connection:
        process = await connection.create_process(
            "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
        )
        assert await process.stdout.readline() == "ready\n"
        process.send_signal("INT")
        done = await process.wait()
        assert (done.exit_status, done.stdout) == (5, "caught\n")


async def test_a_background_child_does_not_lose_its_late_output(there: There) -> None:
    rig, booted = there
    late = await rig.ssh(booted, "(sleep 0.4; echo late) & echo early")
    assert late.text == "early\nlate"


async def test_a_lost_client_ends_its_session(there: There) -> None:
    rig, booted = there
    mark = booted.workspace_root / "ticks"
    client = await asyncio.create_subprocess_exec(
        *rig.ssh_argv(booted, "while :; do date +%s%N > $WORKSPACE/ticks; echo tick; sleep 0.05; done"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await eventually(mark.exists)
    client.kill()
    await client.wait()

    async def stands_still() -> bool:
        before = mark.read_text()
        await asyncio.sleep(0.4)
        return mark.read_text() == before

    for _ in range(20):
        if await stands_still():
            return
    pytest.fail("the session went on without its client")


async def test_a_terminal_has_a_size_and_follows_it(there: There) -> None:
    async with await connect(there) as connection:
        process = await connection.create_process(
            "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done",
            term_type="xterm-256color", term_size=(100, 40),
        )  # fmt: skip
        assert (await process.stdout.readline()).strip() == "40 100"
        assert (await process.stdout.readline()).strip() == "ready"
        process.change_terminal_size(120, 50)
        assert (await process.stdout.readline()).strip() == "50 120"
        assert (await process.wait()).exit_status == 0


async def test_control_c_reaches_the_foreground(there: There) -> None:
    async with await connect(there) as connection:
        process = await connection.create_process(term_type="xterm", term_size=(80, 24))
        process.stdin.write("sleep 1000\n")
        await process.stdout.readuntil("sleep 1000")
        await asyncio.sleep(0.3)
        process.stdin.write("\x03")
        process.stdin.write("echo st''ill $TERM $(nvidia-smi -L | wc -l); exit 4\n")
        text = await process.stdout.read()
        assert "still xterm 1" in text
        assert (await process.wait()).exit_status == 4


async def test_a_shell_with_a_background_child_lets_go_of_its_terminal(there: There) -> None:
    async with await connect(there) as connection:
        process = await connection.create_process("sleep 1000 & echo bye", term_type="xterm")
        done = await asyncio.wait_for(process.wait(), 10)
        assert "bye" in str(done.stdout)


@pytest.mark.parametrize("keeper", [tool for tool in ("setsid", "nohup", "tmux") if shutil.which(tool)])
async def test_detached_work_survives_its_session(there: There, keeper: str) -> None:
    rig, booted = there
    work = f"sh -c 'echo begun > $WORKSPACE/{keeper}; exec sleep 1000'"
    detached = f'tmux new-session -d "{work}"' if keeper == "tmux" else f"{keeper} {work} >/dev/null 2>&1 </dev/null &"
    assert (await rig.ssh(booted, detached)).status == 0
    await eventually((booted.workspace_root / keeper).exists)
    assert "sleep 1000" in (await rig.ssh(booted, "ps -e -o args")).text
    await rig.ssh(booted, "pkill -u root -x sleep" if booted.isolation == "ns" else "tmux kill-server")


async def test_forwards_in_both_directions(there: There) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    rig, booted = there
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with await connect(there) as connection:
        local = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", port)
        remote = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
        for listener in (local, remote):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
            writer.write(b"there and back\n")
            assert await reader.readline() == b"THERE AND BACK\n"
            writer.close()
            listener.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    client = await asyncio.create_subprocess_exec(
        *rig.ssh_argv(booted, "-N", options=("-L", f"127.0.0.1:{free}:127.0.0.1:{port}")),
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        reader, writer = await connected(free)
        writer.write(b"by openssh\n")
        assert await reader.readline() == b"BY OPENSSH\n"
        writer.close()
    finally:
        client.send_signal(signal.SIGTERM)
        await client.wait()
        server.close()
        await server.wait_closed()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(200):
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
    pytest.fail("nobody listens")


async def test_copies_by_scp_sftp_and_rsync_say_success(there: There, tmp_path: Path) -> None:
    rig, booted = there
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(BIG)
    place = f"root@127.0.0.1:{rig_path(booted)}/copied"
    port = ["-P", str(booted.direct[1])]
    for old in ([], ["-O"]):
        for argv in ([str(source), place], [place, str(back)]):
            done = await finish(["scp", "-q", *old, *rig.options(), *port, *argv])
            assert (done.status, done.err) == (0, b"")
        assert back.read_bytes() == BIG
        back.unlink()
    batch = f"put {source} {rig_path(booted)}/put\nget {rig_path(booted)}/put {back}\n"
    done = await finish(["sftp", "-q", *rig.options(), *port, "-b", "-", "root@127.0.0.1"], stdin=batch.encode())
    assert done.status == 0
    assert back.read_bytes() == BIG


@pytest.mark.parametrize("tool", [tool for tool in ("rsync", "scp") if shutil.which(tool)])
async def test_a_tree_is_carried_there_and_back(there: There, tmp_path: Path, tool: str) -> None:
    rig, booted = there
    tree, back = tmp_path / "tree", tmp_path / "back"
    for number in range(40):
        file = tree / f"d{number % 5}" / f"f{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(BIG[: number * 20_000])
    shell = " ".join(["ssh", *rig.options(), "-p", str(booted.direct[1])])
    place = f"root@127.0.0.1:{rig_path(booted)}/{tool}-tree"
    for source, target in ((str(tree), place), (place, str(back))):
        if tool == "rsync":
            argv = ["rsync", "-a", "-e", shell, f"{source}/", f"{target}/"]
        else:
            argv = ["scp", "-q", "-r", *rig.options(), "-P", str(booted.direct[1]), source, target]
        assert (await finish(argv)).status == 0
    for file in tree.rglob("f*"):
        assert (back / file.relative_to(tree)).read_bytes() == file.read_bytes()


def rig_path(booted: Booted) -> str:
    return "/workspace" if booted.isolation == "ns" else str(booted.workspace_root)


async def test_an_agent_is_forwarded_and_leaves_no_directory(there: There) -> None:
    rig, booted = there
    agent = await finish(["ssh-agent", "-s", "-a", str(rig.directory / "agent.sock")])
    pid = int(agent.text.split("SSH_AGENT_PID=")[1].split(";")[0])
    env = {**os.environ, "SSH_AUTH_SOCK": str(rig.directory / "agent.sock")}
    try:
        assert (await finish(["ssh-add", "-q", str(rig.key)], env=env)).status == 0
        seen = await finish(rig.ssh_argv(booted, "ssh-add -l", options=("-A",)), env=env)
        assert "ED25519" in seen.text
    finally:
        os.kill(pid, signal.SIGTERM)
    await eventually(lambda: not list((booted.root / "tmp").glob("asyncssh-*")))


async def test_many_sessions_share_one_master(there: There) -> None:
    rig, booted = there
    control = rig.directory / "control"
    options = ("-o", f"ControlPath={control}", "-o", "ControlMaster=auto", "-o", "ControlPersist=30")
    assert (await rig.ssh(booted, "true", options=options)).status == 0
    said = await asyncio.gather(*(rig.ssh(booted, f"echo {n}", options=options) for n in range(8)))
    assert [s.text for s in said] == [str(n) for n in range(8)]
    assert (await finish(rig.ssh_argv(booted, options=(*options, "-O", "exit")))).status == 0


async def test_a_flood_reaches_the_channels_it_is_meant_for(there: There) -> None:
    rig, booted = there
    async with await connect(there) as connection:
        agent = await connection.create_process("cat # agent", encoding=None)
        agent.stdin.write(b"hello\n")
        assert await agent.stdout.readline() == b"hello\n"
        await rig.host.flood("box", needle="agent")
        flooded = 0
        while flooded < 5_000_000:
            flooded += len(await agent.stdout.read(1 << 16))
        assert (await rig.ssh(booted, "echo calm")).out == b"calm\n"
        await rig.host.flood("box", needle=None)
        agent.kill()
        await agent.wait()
    assert (await rig.ssh(booted, "echo agent")).out == b"agent\n"


async def test_only_harmless_variables_are_taken_from_the_client(there: There) -> None:
    async with await connect(there) as connection:
        env = {"LC_ALL": "C", "LD_PRELOAD": "/evil.so", "SSH_ORIGINAL_COMMAND": "forged", "COLORTERM": "truecolor"}
        said = await connection.run("echo $LC_ALL $COLORTERM [$LD_PRELOAD] [$SSH_ORIGINAL_COMMAND]", env=env)
        assert str(said.stdout).strip() == "C truecolor [] []"
