"""A lab machine's life: what boots, dies, stands still and comes back, seen from outside and from inside."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from core.lab import processes, rootfs
from core.lab.host import Booted
from core.lab.links import KeeperLink
from core.lab.throttle import Throttle
from tests.lab.machine_rig import Rig, eventually, lab

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAEMON = "setsid nohup sh -c 'while :; do date +%s%N > {beat}; sleep 0.05; done' >/dev/null 2>&1 & sleep 0.3; echo up"


def isolations() -> list[str]:
    return ["ns", "plain"] if rootfs.probe()[0] == "ns" else ["plain"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=isolations())
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with lab(request.param) as made:
        yield made


async def next_death(rig: Rig) -> str:
    return await asyncio.wait_for(anext(rig.host.deaths()), 20)


async def test_a_boot_gives_a_login_with_the_machines_own_environment(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("login"))
    for door in (booted.direct, booted.proxy):
        said = await rig.ssh(
            booted, "echo $USER $CONTAINER_ID $WORKSPACE $LAB_ADDR; pwd; nproc", options=("-p", str(door[1]))
        )
        user, container, workspace, address = said.text.splitlines()[0].split()
        assert (user, container, address) == ("root", "login", booted.address)
        assert said.text.splitlines()[2] == "8"
        assert workspace == ("/workspace" if booted.isolation == "ns" else str(booted.workspace_root))
    assert booted.isolation == rig.host.isolation
    await rig.host.destroy("login")


async def test_the_workspace_is_the_same_file_inside_and_outside(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("files"))
    (booted.workspace_root / "from-outside").write_text("in")
    said = await rig.ssh(booted, "cat $WORKSPACE/from-outside; echo out > $WORKSPACE/from-inside")
    assert said.text == "in"
    assert (booted.workspace_root / "from-inside").read_text() == "out\n"
    await rig.host.destroy("files")


async def test_an_own_root_shows_only_the_machine(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("own", ram_mib=12_345))
    if booted.isolation == "ns":
        said = await rig.ssh(
            booted,
            f"hostname; cat /proc/1/comm; ls {rig.directory} 2>&1 | head -1; grep MemTotal /proc/meminfo; "
            "grep -c ^processor /proc/cpuinfo; ls /dev/pts/ptmx; touch /usr/x 2>&1; cat /etc/shadow",
        )
        lines = said.text.splitlines()
        assert lines[0] == "box-own"
        assert lines[1] == "lab-init"
        assert "No such file" in lines[2]
        assert lines[3].split()[1] == str(12_345 * 1024)
        assert lines[4] == "8"
        assert "Read-only" in lines[6]
        assert lines[7].startswith("root:*:")
        seen = await rig.ssh(booted, "ls -d /proc/[0-9]* | wc -l")
        assert int(seen.text) < 10
    else:
        assert "namespaces" in rig.host.isolation_reason or "LAB_ISOLATION" in rig.host.isolation_reason
    await rig.host.destroy("own")


async def test_no_secret_of_the_operator_reaches_a_machine(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", "sesame-5512")
    booted = await rig.host.boot(rig.spec("secret"))
    said = await rig.ssh(booted, "env; cat /proc/1/environ /proc/$PPID/environ | tr '\\0' '\\n'")
    assert "CONTAINER_ID=secret" in said.text
    assert "sesame" not in said.text
    await rig.host.destroy("secret")


async def test_killing_the_servers_pid_takes_daemons_of_their_own_session_along(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("kill"))
    beat = booted.workspace_root / "beat"
    assert (await rig.ssh(booted, DAEMON.format(beat="$WORKSPACE/beat"))).text == "up"
    await rig.ssh(booted, "tmux new-session -d 'sleep 1000'") if Path("/usr/bin/tmux").exists() else None
    family = processes.descendants(booted.init_pid)
    assert len(family) >= 3
    os.kill(booted.pid, signal.SIGKILL)  # as any outside script would
    assert await next_death(rig) == "kill"
    await eventually(lambda: not any(processes.is_alive(pid) for pid in [booted.init_pid, *family]))
    last = beat.read_text()
    await asyncio.sleep(0.3)
    assert beat.read_text() == last
    refused = await rig.ssh(booted, "true")
    assert refused.status == 255
    assert b"refused" in refused.err
    await rig.host.destroy("kill")


async def test_stopping_the_servers_pid_freezes_everything_and_continuing_resumes_it(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("stop"))
    beat = booted.workspace_root / "beat"
    await rig.ssh(booted, DAEMON.format(beat="$WORKSPACE/beat"))
    os.kill(booted.pid, signal.SIGSTOP)
    await eventually(lambda: stands_still(booted))
    last = beat.read_text()
    waiting = asyncio.create_task(rig.ssh(booted, "echo resumed"))
    await asyncio.sleep(0.5)
    assert beat.read_text() == last
    assert not waiting.done()
    os.kill(booted.pid, signal.SIGCONT)
    assert (await waiting).text == "resumed"
    await eventually(lambda: beat.read_text() != last)
    await rig.host.destroy("stop")


def stands_still(booted: Booted) -> bool:
    """Stopped, or (D) in vfork(2) with a stopped child."""
    states = {s.state for p in processes.descendants(booted.init_pid) if (s := processes.read_stat(p))}
    return "T" in states and states <= {"T", "D"}


async def test_freeze_and_thaw_return_when_it_is_so(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("freeze"))
    await rig.ssh(booted, DAEMON.format(beat="$WORKSPACE/beat"))
    await rig.host.freeze("freeze")
    assert stands_still(booted)
    await rig.host.thaw("freeze")
    assert (await rig.ssh(booted, "echo here")).text == "here"
    await rig.host.freeze("freeze")
    await rig.host.kill("freeze", power_off=False)  # a frozen machine dies all the same
    assert await next_death(rig) == "freeze"
    await rig.host.destroy("freeze")


async def test_a_second_boot_keeps_files_host_key_and_ports(rig: Rig) -> None:
    first = await rig.host.boot(rig.spec("again"))
    await rig.ssh(first, "echo kept > $WORKSPACE/file; echo kept > $HOME/file")
    keys = await rig.ssh(
        first, "true", options=("-o", f"UserKnownHostsFile={rig.directory}/known", "-o", "HashKnownHosts=no")
    )
    assert keys.status == 0
    await rig.host.stop("again")
    assert "again" not in rig.host.booted()
    assert b"refused" in (await rig.ssh(first, "true")).err
    second = await rig.host.boot(rig.spec("again"))
    assert (second.direct, second.proxy) == (first.direct, first.proxy)
    same = ("-o", f"UserKnownHostsFile={rig.directory}/known", "-o", "StrictHostKeyChecking=yes")
    assert (await rig.ssh(second, "cat $WORKSPACE/file $HOME/file", options=same)).text == "kept\nkept"
    assert await rig.host.boot(rig.spec("again")) == second
    await rig.host.destroy("again")


async def test_stop_asks_before_it_kills(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("grace"))
    work = "trap 'echo asked > $WORKSPACE/word; exit 0' TERM; while :; do sleep 0.05; done"
    started = await rig.ssh(booted, f'setsid nohup sh -c "{work}" >/dev/null 2>&1 & sleep 0.3')
    assert started.status == 0
    await rig.host.stop("grace")
    assert (booted.workspace_root / "word").read_text() == "asked\n"
    await rig.host.destroy("grace")
    assert not booted.root.exists()


async def test_onstart_runs_at_boot_and_its_words_are_kept(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("onstart", onstart="echo began on $CONTAINER_ID; exec sleep 1000"))
    log = booted.root / "var/log/onstart.log"
    await eventually(lambda: log.exists() and log.read_text() == "began on onstart\n")
    assert len(processes.descendants(booted.init_pid)) == 2
    await rig.host.destroy("onstart")


async def test_keys_change_while_the_machine_runs(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("keys"))
    await rig.host.set_keys("keys", [])
    refused = await rig.ssh(booted, "true")
    assert b"Permission denied" in refused.err
    await rig.host.set_keys("keys", ["not a key", rig.key.with_suffix(".pub").read_text()])
    assert (await rig.ssh(booted, "echo in", user="ops")).text == "in"
    assert (await rig.ssh(booted, "true", user="stranger")).status == 255
    await rig.host.destroy("keys")


async def test_a_restricted_key_runs_its_command_only(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("forced"))
    line = 'restrict,command="echo forced: $SSH_ORIGINAL_COMMAND" ' + rig.key.with_suffix(".pub").read_text()
    await rig.host.set_keys("forced", [line])
    assert (await rig.ssh(booted, "cat /etc/passwd")).text == "forced: cat /etc/passwd"
    await rig.host.destroy("forced")


async def test_another_host_key_answers_and_the_machine_lives_on(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("other"))
    pinned = ("-o", f"UserKnownHostsFile={rig.directory}/known-other")
    await rig.ssh(booted, DAEMON.format(beat="$WORKSPACE/beat"), options=pinned)
    await rig.host.wrong_host_key("other", True)
    changed = await rig.ssh(booted, "true", options=(*pinned, "-o", "StrictHostKeyChecking=yes"))
    assert changed.status == 255
    assert b"HOST IDENTIFICATION HAS CHANGED" in changed.err or b"Host key verification failed" in changed.err
    beat = booted.workspace_root / "beat"
    last = beat.read_text()
    await eventually(lambda: beat.read_text() != last)
    assert not [name for name in rig.host.booted() if "~" in name]
    await rig.host.wrong_host_key("other", False)
    healed = await rig.ssh(booted, "echo mine", options=(*pinned, "-o", "StrictHostKeyChecking=yes"))
    assert healed.text == "mine"
    await rig.host.destroy("other")


async def test_a_command_of_the_lab_runs_inside_and_ends_in_time(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("run"))
    status, words = await rig.host.run("run", ["sh", "-c", "echo $WORKSPACE; exit 3"], timeout_s=20)
    assert (status, words.decode().strip()) == (
        3,
        "/workspace" if booted.isolation == "ns" else str(booted.workspace_root),
    )
    assert (await rig.host.run("run", ["no-such-program-here"], timeout_s=20))[0] == 127
    with pytest.raises(TimeoutError):
        await rig.host.run("run", ["sleep", "1000"], timeout_s=0.5)
    assert len(processes.descendants(booted.init_pid)) == 1
    await rig.host.destroy("run")
    with pytest.raises(OSError, match="not running"):
        await rig.host.run("run", ["true"], timeout_s=1)


async def test_a_full_disk_is_real_or_refused(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("disk"))
    if booted.isolation == "plain":
        with pytest.raises(OSError, match="without namespaces"):
            await rig.host.disk_full("disk", True)
    else:
        await rig.ssh(booted, "echo old > /workspace/old")
        await rig.host.disk_full("disk", True)
        full = await rig.ssh(booted, "cat /workspace/old; echo new > /workspace/new; df --output=avail /workspace")
        assert b"No space left" in full.err
        assert full.text.split() == ["old", "Avail", "0"]
        await rig.host.disk_full("disk", False)
        assert (await rig.ssh(booted, "cat /workspace/old; echo new > /workspace/new && echo fits")).text == "old\nfits"
    await rig.host.destroy("disk")


def groups(home: Path) -> list[Path] | None:
    """Control groups of slowed machines; None where the host has no throttle for us."""
    try:
        return Throttle.find(home).groups()
    except OSError:
        return None


async def test_a_slow_disk_is_real_or_refused(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("slow"))
    home = rig.directory / "lab"
    if groups(home) is None:
        with pytest.raises(OSError, match="slow-disk cannot be made real here"):
            await rig.host.slow_disk("slow", bytes_per_s=4_000_000)
    else:
        await rig.host.slow_disk("slow", bytes_per_s=4_000_000)
        began = time.monotonic()
        write = "dd if=/dev/zero of=$WORKSPACE/big bs=1M count=6 oflag=direct 2>&1 | tail -1"
        assert "copied" in (await rig.ssh(booted, write)).text
        assert time.monotonic() - began > 1.2  # 6.3 MB at 4 MB/s, after the first burst
        await rig.host.slow_disk("slow", bytes_per_s=0)
        assert groups(home) == []
        await rig.host.slow_disk("slow", bytes_per_s=4_000_000)
        os.kill(booted.pid, signal.SIGKILL)
        assert await next_death(rig) == "slow"
        assert groups(home) == []
    await rig.host.destroy("slow")


async def test_the_disk_has_the_size_that_was_sold(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("df", disk_gb=77.0))
    await rig.ssh(booted, "head -c 3000000 /dev/zero > $WORKSPACE/three")
    said = await rig.ssh(booted, "df -Pk $WORKSPACE | tail -1; df -B1 --output=size,used / | tail -1; df -h | tail -1")
    portable, exact, human = said.text.splitlines()
    assert int(portable.split()[1]) == 77 << 20
    assert int(exact.split()[0]) == 77 << 30
    assert 3_000_000 <= int(exact.split()[1]) < 5_000_000
    assert "77G" in human
    await rig.host.destroy("df")


async def test_eight_machines_boot_and_die_together(rig: Rig) -> None:
    ids = [f"many-{i}" for i in range(8)]
    booted = await asyncio.gather(*(rig.host.boot(rig.spec(i)) for i in ids))
    assert len({b.direct for b in booted} | {b.proxy for b in booted}) == 16
    said = await asyncio.gather(*(rig.ssh(b, "echo $LAB_MACHINE") for b in booted))
    assert [s.text for s in said] == ids
    await asyncio.gather(*(rig.host.destroy(i) for i in ids))
    assert not set(rig.host.booted()) & set(ids)
    assert not any(processes.is_alive(b.init_pid) for b in booted)


async def test_directories_and_sockets_are_the_owners_alone(rig: Rig) -> None:
    home = rig.directory / "lab"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "machines").stat().st_mode) == 0o700
    for name in ("keeper.sock", "gate.sock"):
        assert stat.S_IMODE((home / name).stat().st_mode) & 0o077 == 0


async def test_an_id_that_is_a_path_is_refused(rig: Rig) -> None:
    for bad in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(OSError, match="cannot name a machine"):
            await rig.host.boot(rig.spec(bad, hostname="x"))


async def test_a_bad_request_costs_no_machine_its_life(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("robust"))
    link = KeeperLink(rig.directory / "lab")
    await link.open()
    for op, fields in (
        ("nonsense", {}),
        ("boot", {"id": "x"}),
        ("signal", {"id": "robust", "to": "tree", "signal": "?"}),
    ):
        with pytest.raises(OSError, match=r"knows no request|does not understand"):
            await link.request(op, **fields)
    link.close()
    with pytest.raises(OSError, match="more than a machine takes"):
        await rig.host.boot(rig.spec("big", onstart="#" * 200_000))
    assert (await rig.ssh(booted, "echo alive")).text == "alive"
    await rig.host.destroy("robust")
    await rig.host.destroy("big")


async def test_what_the_lab_ran_inside_ends_with_the_machine(rig: Rig) -> None:
    booted = await rig.host.boot(rig.spec("stray"))
    beat = booted.workspace_root / "beat"
    command = "(while :; do date +%s%N > $WORKSPACE/beat; sleep 0.05; done) </dev/null >/dev/null 2>&1 &"
    assert (await rig.host.run("stray", ["sh", "-c", command], timeout_s=20))[0] == 0
    await eventually(beat.exists)
    os.kill(booted.pid, signal.SIGKILL)
    assert await next_death(rig) == "stray"
    last = beat.read_text()
    await asyncio.sleep(0.3)
    assert beat.read_text() == last
    await rig.host.destroy("stray")
