"""Connections against a real SSH server: keys, pins, commands, limits, lost connections."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from core.domain.errors import CommandFailed, ConfigError, HostKeyChanged, Unreachable
from core.remote import host_keys
from core.remote.files import get_bytes, get_file, put_bytes, put_file
from core.remote.speed import measure_upload
from core.remote.ssh import Address, connect, make_identity, translated

if TYPE_CHECKING:
    from tests.remote.conftest import Rig


async def test_the_identity_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "id_ed25519"
    first, second = await asyncio.gather(make_identity(path), make_identity(path))
    assert first == second == await make_identity(path)
    assert first.startswith("ssh-ed25519 AAAA")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in path.parent.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    path.write_text("nonsense")
    with pytest.raises(ConfigError):
        await make_identity(path)


async def test_run_gives_status_and_both_streams(rig: Rig) -> None:
    connection = await rig.connect(await rig.machine())
    done = await connection.run("cat; echo oops >&2; exit 3", stdin=b"hello", check=False)
    assert (done.exit_status, done.stdout, done.stderr) == (3, b"hello", b"oops\n")
    assert (await connection.run(["printf", "%s", "a b'c"])).stdout == b"a b'c"
    with pytest.raises(CommandFailed, match="status 3") as caught:
        await connection.run("printf 'bad \\033[31mthing' >&2; exit 3")
    assert caught.value.stderr_tail == "bad ·[31mthing"
    assert len((await connection.run("head -c 900000 /dev/zero")).stdout) == 900000


async def test_a_command_is_bounded_in_time_and_in_output(rig: Rig) -> None:
    connection = await rig.connect(await rig.machine())
    with pytest.raises(CommandFailed, match="did not end"):
        await connection.run("sleep 60", timeout_s=0.3)
    with pytest.raises(CommandFailed, match="printed more"):
        await connection.run("yes", max_output=100_000)
    assert (await connection.run("echo still here")).stdout == b"still here\n"


async def test_a_connection_that_breaks_under_a_command_is_unreachable(rig: Rig) -> None:
    machine = await rig.machine()
    connection = await rig.connect(machine)
    running = asyncio.create_task(connection.run("echo up; sleep 60"))
    while not machine.commands:
        await asyncio.sleep(0.01)
    machine.connections[-1].abort()
    with pytest.raises(Unreachable):
        await running
    await connection.closed()
    assert not connection.is_open
    with pytest.raises(Unreachable):
        await connection.run("echo")


async def test_the_first_key_is_pinned_and_another_one_stops_everything(rig: Rig) -> None:
    machine = await rig.machine()
    first = await rig.connect(machine)
    text = rig.known_hosts.read_text()
    assert text == f"understudy-m1 {first.host_key}\n"
    assert stat.S_IMODE(rig.known_hosts.stat().st_mode) == 0o600
    await rig.connect(machine)
    assert rig.known_hosts.read_text() == text
    other = await rig.machine("other")
    with pytest.raises(HostKeyChanged):
        await rig.connect(other)
    assert (other.logins, other.commands) == (0, [])
    await asyncio.to_thread(host_keys.forget, rig.known_hosts, "m1")
    assert (await rig.connect(other)).host_key != first.host_key


async def test_two_machines_on_one_address_have_two_pins(rig: Rig) -> None:
    machine = await rig.machine()
    await rig.connect(machine, machine_id="m1")
    port = machine.port
    await machine.stop()
    machine.host_key = asyncssh.generate_private_key("ssh-ed25519")
    await machine.start(port)
    await rig.connect(machine, machine_id="m2")
    with pytest.raises(HostKeyChanged):
        await rig.connect(machine, machine_id="m1")


async def test_a_key_of_another_kind_is_a_change_too(rig: Rig) -> None:
    machine = await rig.machine()
    await rig.connect(machine)
    other = await rig.machine("other")
    await other.stop()
    other.host_key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    await other.start()
    with pytest.raises(HostKeyChanged):
        await rig.connect(other)


async def test_addresses_are_tried_in_order(rig: Rig) -> None:
    machine = await rig.machine()
    dead = await rig.machine("dead")
    await dead.stop()
    connection = await connect(
        "m1", [dead.address, machine.address], identity=rig.identity, known_hosts=rig.known_hosts
    )
    assert connection.address == machine.address
    await connection.close()
    with pytest.raises(Unreachable, match=r"cannot be reached|failed"):
        await connect("m1", [dead.address], identity=rig.identity, known_hosts=rig.known_hosts)
    with pytest.raises(Unreachable, match="no SSH address"):
        await connect("m1", [], identity=rig.identity, known_hosts=rig.known_hosts)


async def test_a_server_that_says_nothing_is_unreachable_in_time(rig: Rig) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    with pytest.raises(Unreachable):
        await connect("m1", [address], identity=rig.identity, known_hosts=rig.known_hosts, timeout_s=0.5)
    server.close()


async def test_a_key_that_is_not_accepted_says_so(rig: Rig) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode()
    machine = await rig.machine(authorized=stranger)
    with pytest.raises(Unreachable, match="does not accept our SSH key"):
        await rig.connect(machine)


async def test_openssh_reads_the_same_pins(rig: Rig) -> None:
    machine = await rig.machine()
    await rig.connect(machine)
    argv = f"ssh -F none -p {machine.port} -i {rig.identity} -o IdentitiesOnly=yes -o BatchMode=yes".split()
    argv += ["-o", f"HostKeyAlias={host_keys.alias('m1')}", "-o", f"UserKnownHostsFile={rig.known_hosts}"]
    argv += ["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null", "root@127.0.0.1", "echo in"]
    child = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, stdout=-1, stderr=-1)
    out, err = await child.communicate()
    assert (child.returncode, out) == (0, b"in\n"), err


async def test_files_arrive_whole_with_their_mode(rig: Rig, tmp_path: Path) -> None:
    machine = await rig.machine()
    connection = await rig.connect(machine)
    data = bytes(range(256)) * 10_000
    await put_bytes(connection, f"{machine.home}/deep/er/file.bin", data, mode=0o700)
    there = machine.home / "deep" / "er" / "file.bin"
    assert there.read_bytes() == data
    assert stat.S_IMODE(there.stat().st_mode) == 0o700
    await put_bytes(connection, f"{machine.home}/deep/er/file.bin", b"new")
    assert await get_bytes(connection, f"{machine.home}/deep/er/file.bin") == b"new"
    assert [p.name for p in there.parent.iterdir()] == ["file.bin"]
    local = tmp_path / "local"
    local.write_bytes(data)
    await put_file(connection, local, f"{machine.home}/up")
    assert await get_file(connection, f"{machine.home}/up", tmp_path / "back", limit=len(data)) == len(data)
    assert (tmp_path / "back").read_bytes() == data


async def test_a_file_that_cannot_be_had_is_said_in_one_sentence(rig: Rig, tmp_path: Path) -> None:
    machine = await rig.machine()
    connection = await rig.connect(machine)
    (machine.home / "big").write_bytes(b"x" * 1000)
    with pytest.raises(CommandFailed, match="larger than 999"):
        await get_file(connection, f"{machine.home}/big", tmp_path / "got", limit=999)
    assert [p.name for p in tmp_path.iterdir() if "got" in p.name] == []
    with pytest.raises(CommandFailed):
        await get_bytes(connection, f"{machine.home}/none")
    with pytest.raises(CommandFailed):
        await put_bytes(connection, f"{machine.home}/big/under", b"x")


async def test_upload_is_measured_in_bytes_per_second(rig: Rig) -> None:
    connection = await rig.connect(await rig.machine())
    assert await measure_upload(connection, 1024 * 1024) > 10_000


@pytest.mark.parametrize("machine_id", ["", "a b", "../x", "-o", "a\nb", "*"])
def test_only_plain_ids_become_aliases(machine_id: str) -> None:
    with pytest.raises(ValueError):
        host_keys.alias(machine_id)


def test_every_error_class_of_the_ssh_library_is_mapped() -> None:
    todo: list[type[BaseException]] = [asyncssh.Error, OSError]
    seen: set[type[BaseException]] = set()
    while todo:
        one = todo.pop()
        seen.add(one)
        todo += [sub for sub in one.__subclasses__() if sub.__module__.startswith(("asyncssh", "builtins"))]
    assert len(seen) > 20
    for kind in seen:
        error = kind.__new__(kind)
        Exception.__init__(error, "said \x1b[2J so")
        with pytest.raises(Unreachable) as caught, translated("m1"):
            raise error
        assert "\x1b" not in str(caught.value)
