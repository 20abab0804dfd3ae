"""A lab machine: init and the SSH server below it.

One rule: the server's fate is the machine's; stopped, all stop; dead, all die.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from core.lab import linuxns as ns
from core.lab import rootfs, sshd
from core.lab.processes import kill_tree, signal_tree


@dataclass(frozen=True)
class Plan:
    """What the keeper needs to fork one machine; plain data, JSON on the keeper's socket."""

    id: str
    hostname: str
    isolation: str
    user_namespace: bool
    root: str
    keep: tuple[str, ...]
    passthrough: bool
    host_key: str
    env: dict[str, str]
    onstart: str
    cores: int

    def __repr__(self) -> str:
        return f"Plan({self.id!r})"  # host key and environment stay out of logs

    @property
    def place(self) -> sshd.Place:
        prefix = "" if self.isolation == "ns" else self.root
        return sshd.Place(self.id, prefix, self.env, self.host_key)


def _limit_cores(cores: int) -> None:
    """The machine's processes run on as many of this host's cores as it was sold, or on all when it was sold more."""
    mine = sorted(os.sched_getaffinity(0))
    if cores < len(mine):
        start = os.getpid() % len(mine)  # spread: not every small machine on core 0
        os.sched_setaffinity(0, [mine[(start + i) % len(mine)] for i in range(cores)])


def start_onstart(plan: Plan) -> None:
    """The provider's start command, a child of init in a session of its own; its words are in /var/log/onstart.log."""
    if not plan.onstart:
        return
    place = plan.place
    log = f"{place.prefix}/var/log/onstart.log"
    if os.fork():
        return
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(place.home("root"))
    shell = sshd.login_shell()
    os.execve(shell, [shell, "-c", plan.onstart], place.environ("root"))  # noqa: S606


def mirror(server_pid: int) -> None:
    """init's life: wait for everyone. Server stopped: stop all; continued: continue all; dead: take all along."""
    me = os.getpid()
    while True:
        try:
            pid, status = os.waitpid(-1, os.WUNTRACED | os.WCONTINUED)
        except ChildProcessError:
            os._exit(0)
        if pid != server_pid:
            continue
        if os.WIFSTOPPED(status):
            signal_tree(me, signal.SIGSTOP)
        elif os.WIFCONTINUED(status):
            signal_tree(me, signal.SIGCONT)
        else:
            if me != 1:
                kill_tree(me)
            os._exit(0)  # pid 1 of a namespace: the kernel kills the rest at once


def _become_init(plan: Plan, report: int) -> None:
    """Returns in the process that is the machine's init, in its own root where there is one."""
    if plan.isolation == "plain":
        ns.become_subreaper()
        os.write(report, json.dumps({"init": os.getpid()}).encode())
        return
    rootfs.unshare_all(user_namespace=plan.user_namespace)
    gone, held = os.pipe()
    if pid := os.fork():
        os.write(report, json.dumps({"init": pid}).encode())
        os._exit(0)  # init is adopted by the keeper, a subreaper
    os.close(held)
    os.read(gone, 1)  # only after the adoption may PDEATHSIG be set: before it, this helper's exit would fire it
    os.close(gone)
    ns.set_hostname(plan.hostname)
    rootfs.build(rootfs.Layout(plan.root, plan.keep, plan.passthrough))


def run(plan: Plan, listener: socket.socket, ready: int, report: int) -> None:
    """In a fresh fork of the keeper; never returns. Tells {"init": pid} on `report`, one byte on `ready`."""
    ns.name_process("lab-init")
    ns.retitle_process(f"understudy-lab machine {plan.id}: init")
    os.setsid()
    os.umask(0o022)
    _limit_cores(plan.cores)
    _become_init(plan, report)
    ns.die_with_parent()
    if server_pid := os.fork():
        os.close(ready)
        os.close(report)
        listener.close()
        start_onstart(plan)
        mirror(server_pid)
    ns.die_with_parent()
    ns.name_process("lab-sshd")
    ns.retitle_process(f"understudy-lab machine {plan.id}: sshd")
    os.close(report)
    if sys.version_info < (3, 12):
        # the thread-per-child watcher of 3.11 would give every session a thread of the server
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    asyncio.run(sshd.serve(plan.place, listener, ready))
    os._exit(0)


def prepare_tmp(root: Path) -> None:
    """Agent sockets that a killed server left behind."""
    for leftover in (root / "tmp").glob("asyncssh-*"):
        if leftover.is_dir() and not leftover.is_symlink():
            for file in leftover.iterdir():
                file.unlink()
            leftover.rmdir()
