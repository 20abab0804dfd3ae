"""Our end of the agent's channel. Its one rule: a machine that breaks the protocol or its limits is cut off at once.

`AgentChannel.open` pushes the agent when it is not there, starts or joins its daemon, and gives readings from then on.
The daemon outlives the channel: after a broken connection the next `open` finds it as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import asyncssh
import msgspec

from core.agent import wire
from core.domain.errors import AgentMismatch, CommandFailed, MachineError, Unreachable
from core.domain.readings import MachineReading
from core.domain.units import clean
from core.remote import agent_archive, files
from core.remote.agent_frames import (
    AgentHello,
    FrameError,
    LogTail,
    MachineFacts,
    RateLimit,
    decode_message,
    decode_report,
    is_report,
)
from core.remote.ssh import Connection, translated

HELLO_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 15.0
JUDGE_TIMEOUT_S = 60.0
READ_BYTES = 1 << 16
LEASE_EVERY = 10  # reports; the agent sends at most wire.MAX_UNACKED ahead of it
STDERR_BYTES = 2000

# Interpreters where images keep them; the first from 3.8 on is taken. Prints: marker, home, interpreter, have or push.
_PROBE = """\
for p in python3 /usr/bin/python3 /usr/local/bin/python3 /opt/conda/bin/python3 /venv/main/bin/python3 python; do
  if "$p" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
    f="$HOME/.understudy/{name}"; [ -f "$f" ] && s=have || s=push
    printf '\\n=understudy=\\n%s\\n%s\\n%s\\n' "$HOME" "$p" "$s"; exit 0
  fi
done
printf '\\n=understudy=\\n%s\\n\\nnone\\n' "$HOME"
"""

T = TypeVar("T")


class AgentOrders(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel asks for when it opens; `workspace` None leaves the machine's own $WORKSPACE.

    It counts for the daemon that this channel starts; one that runs already keeps what it has.
    """

    workspace: str | None = None


class AgentChannel:
    """A running agent. Every method raises AgentMismatch or Unreachable when the channel has ended."""

    def __init__(
        self, connection: Connection, process: asyncssh.SSHClientProcess[bytes], clock: Callable[[], float]
    ) -> None:
        self._connection = connection
        self._process = process
        self._clock = clock
        self._frames = wire.Frames(skip_noise=True)
        self._greeting: asyncio.Future[AgentHello] = asyncio.get_running_loop().create_future()
        self._waiting: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        self._number = 0
        self._received = 0
        self._latest: MachineReading | None = None
        self._news = asyncio.Event()
        self._failure: MachineError | None = None
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        connection: Connection,
        *,
        hello: AgentOrders,
        clock: Callable[[], float],
        timeout_s: float = HELLO_TIMEOUT_S,
    ) -> AgentChannel:
        """Returns once the agent has said hello. Raises AgentMismatch, CommandFailed or Unreachable."""
        archive = await asyncio.to_thread(agent_archive.build)
        home, python = await _prepare(connection, archive)
        variables = f"WORKSPACE={_quoted(hello.workspace)} " if hello.workspace else ""
        command = f"{variables}exec {_quoted(python)} -I -S {_quoted(home + '/.understudy/' + archive.name)} attach"
        process = await connection.open_process(command)
        channel = cls(connection, process, clock)
        channel._reader = asyncio.create_task(channel._read())
        try:
            with translated(connection.machine_id):
                async with asyncio.timeout(timeout_s):
                    channel._check_version(await asyncio.shield(channel._greeting), archive.version)
        except BaseException:
            await channel.close()
            raise
        return channel

    @property
    def is_open(self) -> bool:
        return self._failure is None

    @property
    def hello(self) -> AgentHello:
        return self._greeting.result()

    async def readings(self) -> AsyncIterator[MachineReading]:
        """Every reading, or the latest one where the caller is slower than the machine. Ends by raising."""
        while True:
            await self._news.wait()
            self._news.clear()
            reading, self._latest = self._latest, None
            if reading is not None:
                yield reading
            if self._failure is not None:
                raise self._failure

    async def tail(self, lines: int) -> LogTail:
        """The last lines of the workspace's newest log."""
        return await self._ask(LogTail, {"t": "tail", "lines": lines}, ANSWER_TIMEOUT_S)

    async def judge(self, disk_mib: int = 64) -> MachineFacts:
        """Measures the disk (writes `disk_mib` MiB and removes them) and says what the machine has."""
        return await self._ask(MachineFacts, {"t": "judge", "disk_mib": disk_mib}, JUDGE_TIMEOUT_S)

    async def set_deadline(self, at_s_from_now: float | None, method: str = "", url: str = "", key: str = "") -> None:
        """Makes the machine end itself then by that call, with `key` as bearer; None takes the deadline away.

        Returns once it is on the machine's disk. `key` must be good for this one machine only.
        """
        order: dict[str, Any] = {"t": "deadline", "in_s": at_s_from_now}
        if at_s_from_now is not None:
            order |= {"method": method, "url": url, "key": key}
        await self._ask(type(None), order, ANSWER_TIMEOUT_S)

    async def drain(self) -> None:
        """Ends the daemon, and with it this channel. A deadline stays on disk for the next one."""
        await self._ask(type(None), {"t": "drain"}, ANSWER_TIMEOUT_S)
        await self.close()

    async def close(self) -> None:
        """Leaves; the daemon goes on. Idempotent."""
        self._end(Unreachable(f"The agent's channel to {self._connection.machine_id} is closed.", machine_id=self._id))
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._process.close()

    @property
    def _id(self) -> str:
        return self._connection.machine_id

    def _check_version(self, said: AgentHello, version: str) -> None:
        if said.protocol != wire.PROTOCOL or said.version != version:
            raise self._mismatch(f"speaks protocol {said.protocol}, version {said.version}")

    async def _ask(self, kind: type[T], order: dict[str, Any], timeout_s: float) -> T:
        if self._failure is not None:
            raise self._failure
        self._number += 1
        number = self._number
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (order["t"], future)
        try:
            with translated(self._id):
                self._process.stdin.write(wire.encode_json({**order, "id": number}))
                async with asyncio.timeout(timeout_s):
                    answer = await future
        finally:
            del self._waiting[number]
        if not isinstance(answer, kind):
            raise self._mismatch(f"answered '{order['t']}' with something else")
        return answer

    async def _read(self) -> None:
        """Reads until the end; whatever ends it is the channel's failure."""
        limit = RateLimit(asyncio.get_running_loop().time())
        try:
            with translated(self._id):
                while data := await self._process.stdout.read(READ_BYTES):
                    for payload in self._frames.feed(data):
                        limit.take(asyncio.get_running_loop().time())
                        self._take(payload)
                said = await self._last_words()
        except (wire.WireError, FrameError) as error:
            self._end(self._mismatch(f"breaks the protocol: {clean(str(error), 160)}"))
        except Unreachable as error:
            self._end(error)
        else:
            started = self._frames.started
            text = f"The agent on {self._id} has ended{': ' + said if said else ''}."
            self._end(Unreachable(text, machine_id=self._id) if started else self._mismatch(f"does not start: {said}"))
        finally:
            self._process.close()

    def _take(self, payload: bytes) -> None:
        if is_report(payload):
            self._latest = decode_report(payload, self._clock())
            self._news.set()
            self._received += 1
            if self._received % LEASE_EVERY == 0:
                self._process.stdin.write(wire.encode_json({"t": "lease", "received": LEASE_EVERY}))
            return
        envelope, body = decode_message(payload)
        if isinstance(body, AgentHello) and not self._greeting.done():
            self._greeting.set_result(body)
        elif envelope.id is not None and envelope.id in self._waiting:
            asked, future = self._waiting[envelope.id]
            if future.done():
                return
            if envelope.t == "error":
                future.set_exception(self._refused(asked, envelope.message))
            else:
                future.set_result(body)

    async def _last_words(self) -> str:
        said = await self._process.stderr.read(STDERR_BYTES)
        return clean(said.decode("utf-8", "replace"), 200).rstrip(".")

    def _end(self, failure: MachineError) -> None:
        """Everyone who waits learns why; the first reason counts."""
        if self._failure is not None:
            return
        self._failure = failure
        self._news.set()
        if not self._greeting.done():
            self._greeting.set_exception(failure)
            self._greeting.exception()  # told by `open`, or by nobody when that was cancelled
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(failure)

    def _mismatch(self, what: str) -> AgentMismatch:
        return AgentMismatch(
            f"The agent on {self._id} {what}.",
            machine_id=self._id,
            hint="The machine is cut off. Retire it, or look at ~/.understudy/agent.log there.",
        )

    def _refused(self, asked: str, message: str) -> CommandFailed:
        said = clean(message, 200).rstrip(".")
        return CommandFailed(
            f"The agent on {self._id} refused '{asked}': {said}.",
            machine_id=self._id,
            argv=asked,
            exit_status=1,
            stderr_tail=said,
        )


async def _prepare(connection: Connection, archive: agent_archive.Archive) -> tuple[str, str]:
    """(home, interpreter) of the machine, with the agent in place."""
    probe = _PROBE.replace("{name}", archive.name)
    try:
        done = await connection.run(["sh", "-c", probe], timeout_s=ANSWER_TIMEOUT_S, max_output=wire.MAX_NOISE)
    except CommandFailed as error:
        raise _no_shell(connection) from error
    _, _, said = done.stdout.decode("utf-8", "replace").rpartition("\n=understudy=\n")
    home, python, state, *_ = [*said.split("\n"), "", "", ""]
    if state == "none":
        raise CommandFailed(
            f"{connection.machine_id} has no Python 3.8 or newer, so its agent cannot run.",
            machine_id=connection.machine_id,
            argv="python3",
            exit_status=127,
            stderr_tail="",
            hint="Take an image with Python.",
        )
    if state not in ("have", "push") or not home.startswith("/") or not python:
        raise _no_shell(connection)
    if state == "push":
        await files.put_bytes(connection, f"{home}/.understudy/{archive.name}", archive.data, mode=0o600)
    return home, python


def _no_shell(connection: Connection) -> AgentMismatch:
    return AgentMismatch(
        f"{connection.machine_id} does not answer as a shell does.",
        machine_id=connection.machine_id,
        hint="Its image may force a command on every login, or it floods. Retire it.",
    )


def _quoted(text: str) -> str:
    """Single-quoted for a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"
