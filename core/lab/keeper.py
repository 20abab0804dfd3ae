"""The keeper: imports the SSH server once, forks one machine per request, owns them all and outlives the front.
One rule: a single thread and no event loop, so that a fork is safe and PDEATHSIG means what it says.

`python -m core.lab.keeper SOCKET [--with-parent PID]`; one JSON object per datagram on a Unix SEQPACKET socket.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import select
import selectors
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh.scp
import asyncssh.sftp  # imported before the fork: a machine's root does not show every file of the host
from cryptography.hazmat.primitives.asymmetric import ed25519

from core.lab import linuxns as ns
from core.lab import machine, rootfs
from core.lab.meter import Card, Meter, Metered
from core.lab.processes import all_stats, descendants, is_alive, kill_tree, read_stat, send, signal_tree
from core.lab.specs import PROTOCOL

log = logging.getLogger(__name__)

WARM = (asyncssh.scp, asyncssh.sftp, ed25519)
DATAGRAM_BYTES = 1 << 17  # below net.core.wmem_default (212,992), the limit of one Unix datagram
BOOT_LIMIT_S = 20.0  # a boot takes 40 ms; one that hangs in the kernel must not hang the keeper
END_LIMIT_S = 5.0  # init takes its tree along in about 40 ms; after this the keeper does it itself
METER_EVERY_S = 1.0

Answer = dict[str, Any]


@dataclass
class Alive:
    """One machine that runs, by the pids of this host's namespace."""

    id: str
    init: int
    server: int
    server_started_ticks: int
    port: int
    plan: machine.Plan
    ending: bool = False  # asked for: its end is no news


def _read_until(fd: int, deadline: float) -> bytes:
    """What the pipe holds, b"" at its end or at the deadline (time.monotonic())."""
    ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
    return os.read(fd, 65536) if ready else b""


def _close_all_but(keep: set[int]) -> None:
    for name in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if name > 2 and name not in keep:
            try:
                os.close(name)
            except OSError:
                continue  # the directory listing's own descriptor, closed already


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def _fork_machine(plan: machine.Plan, listener: socket.socket) -> tuple[int, int]:
    """(ready, report): read ends of the machine's two pipes."""
    ready, tell_ready = os.pipe()
    report, tell_report = os.pipe()
    if os.fork() == 0:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            _close_all_but({listener.fileno(), tell_ready, tell_report})
            machine.run(plan, listener, tell_ready, tell_report)
        except BaseException as error:  # noqa: BLE001 - the last frame of a forked child: nothing may return into the keeper
            traceback.print_exc()
            os.write(tell_report, json.dumps({"error": str(error)}).encode())
        finally:
            os._exit(1)
    os.close(tell_ready)
    os.close(tell_report)
    return ready, report


class Keeper:
    """State and requests; `serve` is the loop."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.machines: dict[str, Alive] = {}
        self.meter = Meter()
        self.watchers: set[socket.socket] = set()
        self.isolation, self.user_namespace, self.reason = rootfs.probe()
        self._kill_strays(f"{home}/machines")

    @staticmethod
    def _kill_strays(place: str) -> None:
        """Without pid namespaces, daemons of a killed keeper, and what the lab itself ran inside, can outlive their
        machine. They are known by where they work."""
        mark = b"\0WORKSPACE=" + os.fsencode(place) + b"/"
        for stat in all_stats():
            try:
                environ = Path(f"/proc/{stat.pid}/environ").read_bytes()
            except OSError:
                continue
            if mark in b"\0" + environ:
                kill_tree(stat.pid)
                send(stat.pid, signal.SIGKILL)

    def handle(self, client: socket.socket, request: Answer) -> Answer:
        """One request, one answer; an `OSError` becomes its sentence."""
        try:
            match request["op"]:
                case "hello":
                    return self._hello()
                case "watch":
                    self.watchers.add(client)
                    return {}
                case "boot":
                    return self._boot(request)
                case "end":
                    return {"was_alive": self.end(str(request["id"]), quiet=bool(request["quiet"]))}
                case "signal":
                    return {"was_alive": self._signal(str(request["id"]), request["to"], request["signal"])}
                case "gpu":
                    self.meter.set_fault(str(request["id"]), request["fault"])
                    return {}
                case unknown:
                    return {"error": f"the keeper knows no request {unknown!r}"}
        except OSError as error:
            return {"error": str(error)}
        except (KeyError, TypeError, ValueError) as error:  # a bad request must not cost the machines their lives
            return {"error": f"the keeper does not understand this request: {error!r}"}

    def _hello(self) -> Answer:
        return {
            "pid": os.getpid(),
            "protocol": PROTOCOL,
            "isolation": self.isolation,
            "user_namespace": self.user_namespace,
            "reason": self.reason,
            "machines": [self._describe(m) for m in self.machines.values()],
        }

    @staticmethod
    def _describe(alive: Alive) -> Answer:
        return {"id": alive.id, "init": alive.init, "pid": alive.server, "port": alive.port,
                "isolation": alive.plan.isolation, "passthrough": alive.plan.passthrough}  # fmt: skip

    def _plan(self, request: Answer) -> machine.Plan:
        return machine.Plan(
            id=str(request["id"]), hostname=request["hostname"], isolation=self.isolation,
            user_namespace=self.user_namespace, root=request["root"], keep=rootfs.python_directories(),
            passthrough=request["passthrough"], host_key=request["host_key"], env=request["env"],
            onstart=request["onstart"], cores=request["cores"],
        )  # fmt: skip

    def _boot(self, request: Answer) -> Answer:
        plan = self._plan(request)
        if self.isolation == "plain" and (refusal := rootfs.refusal_of_plain()):
            raise OSError(refusal)
        if plan.id in self.machines:
            return self._describe(self.machines[plan.id])
        machine.prepare_tmp(Path(plan.root))
        with _listen() as listener:
            port = int(listener.getsockname()[1])
            ready, report = _fork_machine(plan, listener)
        try:
            init, server = self._await_boot(ready, report)
        finally:
            os.close(ready)
            os.close(report)
        started = read_stat(server)
        alive = Alive(plan.id, init, server, started.started_ticks if started else 0, port, plan)
        self.machines[plan.id] = alive
        cards = [] if plan.passthrough else [Card(**card) for card in request["cards"]]
        self.meter.add(
            Metered(
                id=plan.id, init=init, root=Path(plan.root), cards=cards, driver_version=request["driver_version"],
                cuda_version=request["cuda_version"], ram_mib=request["ram_mib"], cores=plan.cores,
                booted_at_s=time.monotonic(),
            )
        )  # fmt: skip
        return self._describe(alive)

    def _await_boot(self, ready: int, report: int) -> tuple[int, int]:
        """(init, server) of a machine that takes logins. Raises OSError, with nothing of it left alive."""
        deadline = time.monotonic() + BOOT_LIMIT_S
        words = json.loads(_read_until(report, deadline) or b"{}")
        init = int(words.get("init", 0))
        if init and _read_until(ready, deadline) == b"1" and (server := self._child_of(init)):
            return init, server
        late = _read_until(report, time.monotonic() + END_LIMIT_S)
        if init:
            self._kill_init(init)
        reason = words.get("error") or json.loads(late or b"{}").get("error") or "it did not take logins in time"
        raise OSError(f"the machine did not boot: {reason}")

    @staticmethod
    def _child_of(init: int) -> int:
        """The server is init's first child; init forks it before anything else."""
        children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        return int(children[0]) if children else 0

    def _signal(self, machine_id: str, to: str, name: str) -> bool:
        """`to`: "server" (init mirrors STOP and CONT to all) or "tree" (all but init and server)."""
        alive = self.machines.get(machine_id)
        if alive is None:
            return False
        number = signal.Signals[name]
        if to == "tree":
            for pid in set(descendants(alive.init)) - {alive.server}:
                send(pid, number)
            return True
        now = read_stat(alive.server)
        return now is not None and now.started_ticks == alive.server_started_ticks and send(alive.server, number)

    @staticmethod
    def _kill_init(init: int) -> None:
        signal_tree(init, signal.SIGSTOP)
        kill_tree(init)
        send(init, signal.SIGKILL)

    def end(self, machine_id: str, *, quiet: bool) -> bool:
        """Kill a whole machine and wait until it is gone. `quiet`: its end is asked for, watchers are not told."""
        alive = self.machines.get(machine_id)
        if alive is None:
            return False
        alive.ending = quiet
        send(alive.server, signal.SIGKILL)
        deadline = time.monotonic() + END_LIMIT_S
        while is_alive(alive.init):
            if time.monotonic() > deadline:
                self._kill_init(alive.init)
                deadline = time.monotonic() + END_LIMIT_S
            time.sleep(0.002)
        self.reap()
        return True

    def reap(self) -> None:
        """Collect the dead: init's end is its machine's; another direct child that lives is an orphan of a dead one."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            for alive in [m for m in self.machines.values() if m.init == pid]:
                self._gone(alive)
        self._kill_orphans()

    def _kill_orphans(self) -> None:
        known = {m.init for m in self.machines.values()}
        me = os.getpid()
        children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
        for pid in {int(c) for c in children} - known:
            kill_tree(pid)
            send(pid, signal.SIGKILL)

    def _gone(self, alive: Alive) -> None:
        del self.machines[alive.id]
        self.meter.remove(alive.id)
        if alive.plan.isolation == "plain":
            self._kill_strays(alive.plan.root)
        if alive.ending:
            return
        for watcher in list(self.watchers):
            try:
                watcher.send(json.dumps({"ended": alive.id}).encode())
            except OSError:
                self.watchers.discard(watcher)


class Loop:
    """The keeper's sockets and signals. A SIGTERM handler that raises could be lost between two blocking calls,
    so signals come in by `signal.set_wakeup_fd`."""

    def __init__(self, keeper: Keeper, listener: socket.socket) -> None:
        self.keeper = keeper
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, "listen")
        self.signals, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self.selector.register(self.signals, selectors.EVENT_READ, "signal")
        self.next_reading_s = time.monotonic()

    def run(self) -> None:
        """Returns on SIGTERM."""
        while True:
            for key, _ in self.selector.select(self._until_reading()):
                if key.data == "listen":
                    self._accept(key.fileobj)  # type: ignore[arg-type]
                elif key.data == "signal":
                    if signal.SIGTERM in os.read(self.signals, 512):
                        return
                    self.keeper.reap()
                else:
                    self._serve(key.data)

    def _until_reading(self) -> float | None:
        """Takes a meter reading when one is due; seconds to the next, None while there is nothing to measure."""
        if not self.keeper.machines:
            return None
        now = time.monotonic()
        if now >= self.next_reading_s:
            try:
                self.keeper.meter.read(now)
            except (OSError, ValueError):  # one bad reading must not cost the machines their lives
                log.exception("a reading of the machines failed")
            self.next_reading_s = max(self.next_reading_s + METER_EVERY_S, now)
        return max(0.0, self.next_reading_s - time.monotonic())

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        self.selector.register(client, selectors.EVENT_READ, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the front was killed in the middle of a request; what it asked for stands
            if message := client.recv(DATAGRAM_BYTES):
                client.send(json.dumps(self.keeper.handle(client, json.loads(message))).encode())
                return
        self.selector.unregister(client)
        self.keeper.watchers.discard(client)
        client.close()


def main(path: Path, arguments: list[str]) -> None:
    """Serve until SIGTERM (`--with-parent PID`: or that parent's end), then take every machine along."""
    ns.become_subreaper()
    ns.name_process("lab-keeper")
    ns.follow_parent(arguments)
    os.umask(0o077)
    keeper = Keeper(path.parent)
    gc.collect()
    gc.freeze()  # the pages of imported code stay shared with every machine
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.chdir(path.parent)
    listener.bind(path.name)  # relative: a deep home would not fit into 108 bytes
    listener.listen(8)
    try:
        Loop(keeper, listener).run()
    finally:
        for machine_id in list(keeper.machines):
            keeper.end(machine_id, quiet=True)
        kill_tree(os.getpid())
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
