"""The daemon: hello, lease, work, report, drain. One rule: a lock makes it the only one on its machine.

It survives the connection that started it, serves whoever attaches, and ends itself when nobody has attached for a day
and no deadline waits.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import socket
import threading
import time
from types import FrameType

from core.agent import deadline as dead_man
from core.agent import facts, place, tail, wire
from core.agent.client import Client
from core.agent.gpus import Gpus
from core.agent.log import Log
from core.agent.report import Reporter

PERIOD_S = 1.0
ALONE_S = 24 * 3600.0
FIRST_GPU_ANSWER_S = 4.0  # a hello waits so long for the driver
DEADLINE_CHECK_S = 1.0
MAX_CLIENTS = 4


class Daemon:
    """`run` returns when it has been told to drain, or was alone for too long."""

    def __init__(self, version: str, listener: socket.socket, log: Log) -> None:
        self._version = version
        self._log = log
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._workspace = place.workspace()
        self._gpus = Gpus()
        self._reporter = Reporter(self._gpus, self._workspace, os.environ.get("LAB_MACHINE", ""))
        self._clients: dict[int, Client] = {}
        self._answers: list[tuple[Client, dict[str, object]]] = []
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._draining = False
        self._deadline = dead_man.load(place.DEADLINE)
        self._carrying_out: threading.Thread | None = None
        self._born = self._attended = time.monotonic()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._drain)
        self._gpus.start()
        self._selector.register(self._listener, selectors.EVENT_READ, "listener")
        self._selector.register(self._wake_in, selectors.EVENT_READ, "wake")
        next_report = next_check = time.monotonic()
        while not self._draining:
            now = time.monotonic()
            if now >= next_check:
                next_check = now + DEADLINE_CHECK_S
                self._check_deadline()
            if now >= next_report:
                next_report = max(next_report + PERIOD_S, now)
                self._report()
            self._draining = self._draining or self._is_alone(now)
            waiting = any(not client.greeted for client in self._clients.values())
            self._turn(min(0.1, PERIOD_S) if waiting else max(0.0, min(next_report, next_check) - now))
        self._end()

    def _turn(self, wait_s: float) -> None:
        for key, events in self._selector.select(wait_s):
            if key.data == "listener":
                self._accept()
            elif key.data == "wake":
                os.read(self._wake_in, 4096)
            else:
                self._serve(key.data, events)
        while self._answers:
            client, answer = self._answers.pop(0)
            client.send(answer)
        self._greet()
        for client in list(self._clients.values()):
            if client.gone:
                self._selector.unregister(client.socket)
                del self._clients[client.socket.fileno()]
                client.socket.close()
                continue
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.has_queue else 0)
            self._selector.modify(client.socket, wanted, client)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CLIENTS:
            oldest = next(iter(self._clients.values()))
            oldest.gone = True  # its connection broke without a word: the newest is the one that lives
        self._attended = time.monotonic()
        client = Client(connection)
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _serve(self, client: Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            client.flush()
        if not events & selectors.EVENT_READ:
            return
        for payload in client.receive():
            self._attended = time.monotonic()
            number = None
            try:
                message = json.loads(payload.decode("utf-8"))
                number = message.get("id") if isinstance(message, dict) else None
                self._obey(client, message if isinstance(message, dict) else {})
            except (ValueError, TypeError, OSError, RecursionError) as error:
                client.send({"t": "error", "id": number, "message": str(error)[:300]})

    def _greet(self) -> None:
        """The hello is the first frame; it waits a little for the GPU driver, so that it can name the GPUs."""
        if not self._gpus.known and time.monotonic() - self._born < FIRST_GPU_ANSWER_S:
            return
        for client in self._clients.values():
            if not client.greeted and not client.gone:
                said = facts.hello(self._gpus, self._workspace, self._reporter.cores)
                left_s = None if self._deadline is None else self._deadline.left_s()
                life = {"t": "hello", "protocol": wire.PROTOCOL, "version": self._version, "deadline_in_s": left_s}
                client.greeted = True
                client.send({**life, **said})

    def _obey(self, client: Client, message: dict[str, object]) -> None:
        """Carries out one order. Raises ValueError, TypeError or OSError with what is wrong with it."""
        kind, number = message.get("t"), message.get("id")
        if kind == "lease":
            client.lease(int(str(message.get("received", 0))))
        elif kind == "tail":
            client.send({"t": "tail", "id": number, **tail.tail(self._workspace, int(str(message.get("lines", 100))))})
        elif kind == "deadline":
            fresh = dead_man.order(message)
            dead_man.save(place.DEADLINE, fresh)
            self._deadline = fresh
            self._log.say(f"deadline set: {fresh}")
            client.send({"t": "deadline", "id": number})
        elif kind == "judge":
            mib = int(str(message.get("disk_mib", 64)))
            threading.Thread(target=self._judge, args=(client, number, mib), daemon=True).start()
        elif kind == "drain":
            self._log.say("told to drain")
            client.send({"t": "drained", "id": number})
            self._draining = True
        else:
            raise ValueError(f"unknown order {str(kind)[:40]}")

    def _judge(self, client: Client, number: object, mib: int) -> None:
        """In a thread: writes to the disk and hands the answer to the loop."""
        try:
            answer: dict[str, object] = {"t": "facts", **facts.judge(self._workspace, mib, self._reporter.cores)}
        except OSError as error:
            answer = {"t": "error", "message": f"the disk cannot be measured: {error.strerror}"}
        self._answers.append((client, {**answer, "id": number}))
        self._wake()

    def _report(self) -> None:
        if any(client.greeted for client in self._clients.values()):
            frame = wire.encode_json(self._reporter.report())
            for client in self._clients.values():
                client.report(frame)

    def _check_deadline(self) -> None:
        due = self._deadline is not None and self._deadline.left_s() <= 0
        if due and self._carrying_out is None and self._deadline is not None:
            self._log.say("deadline reached: this machine ends itself")
            args = (self._deadline, self._log)
            self._carrying_out = threading.Thread(target=dead_man.carry_out, args=args, daemon=True)
            self._carrying_out.start()

    def _is_alone(self, now: float) -> bool:
        """A relay whose connection broke without a word may stay for ever: only what is said counts."""
        return self._deadline is None and now - self._attended > ALONE_S

    def _drain(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._draining = True
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_out, b"x")
        except BlockingIOError:
            return  # it is awake already

    def _end(self) -> None:
        for client in self._clients.values():
            client.flush()
            client.socket.close()
        self._listener.close()
        self._gpus.stop()
        self._log.say("drained")


def serve(version: str) -> int:
    """Runs the daemon in the current directory (the agent's folder); 0 at once when one is running already."""
    log = Log(place.LOG)
    lock = os.open(place.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return 0
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    if os.path.exists(place.SOCKET):
        os.unlink(place.SOCKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(place.SOCKET)
    os.chmod(place.SOCKET, 0o600)
    listener.listen(MAX_CLIENTS)
    listener.setblocking(False)
    log.say(f"agent {version} serves, pid {os.getpid()}")
    try:
        Daemon(version, listener, log).run()
    except Exception as error:
        log.say(f"agent fails: {type(error).__name__}: {error}")
        raise
    finally:
        os.close(lock)
    return 0
