"""The SSH server of one lab machine: real shells, terminals, files and forwards by asyncssh.

One rule: a session ends as sshd ends it, when the child has exited and its output is closed, or when the client is
gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import tempfile
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import asyncssh.channel
import asyncssh.connection

CHUNK_BYTES = 1 << 16
PIPE_LIMIT_BYTES = 1 << 18
TERMINAL_GRACE_S = 0.2  # how long a background child may hold the terminal open after its shell has ended
BUSY_TERMINAL_RETRY_S = 0.005
FLOOD = b"\xfb" * CHUNK_BYTES  # no newline in it: a reader that waits for one without a limit would fill its memory
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ORIGINAL_COMMAND = b"SSH_ORIGINAL_COMMAND"

Process = asyncssh.SSHServerProcess[bytes]


@dataclass(frozen=True)
class Place:
    """Where the machine's files are as its own processes see them: `prefix` is empty in a root of its own."""

    machine_id: str
    prefix: str
    env: dict[str, str]
    host_key: str

    @property
    def tools(self) -> str:
        return f"{self.prefix}/.lab/bin"

    @property
    def scratch(self) -> str:
        return f"{self.prefix}/tmp"  # noqa: S108 - the machine's own

    def home(self, user: str) -> str:
        return self.prefix + ("/root" if user == "root" else f"/home/{user}")

    def environ(self, user: str) -> dict[str, str]:
        """The environment of a login; the machine's own variables come before the provider's."""
        return {
            **self.env,
            "HOME": self.home(user),
            "USER": user,
            "LOGNAME": user,
            "SHELL": login_shell(),
            "LANG": "C.UTF-8",
            "PATH": f"{self.tools}:{SYSTEM_PATH}",
            "TMPDIR": self.scratch,
            "TMUX_TMPDIR": self.scratch,  # without a root of its own, machines would share one tmux server
            "WORKSPACE": f"{self.prefix}/workspace",
            "LAB_MACHINE": self.machine_id,
        }


def login_shell() -> str:
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"


class Channel(asyncssh.channel.SSHServerChannel[bytes]):
    """When a key forces a command, asyncssh drops what the client asked for; sshd hands it on in the environment."""

    def _start_session(self, command: str | None = None, subsystem: str | None = None) -> bool:
        self._env.pop(ORIGINAL_COMMAND, None)  # a client may not claim to have been forced
        if self._conn.get_key_option("command") is not None and (command or subsystem):
            self._env[ORIGINAL_COMMAND] = (command or subsystem or "").encode()
        return super()._start_session(command, subsystem)


class Files(asyncssh.SFTPServer):
    """asyncssh closes an SFTP channel without an exit status; scp then reports failure after a good copy."""

    def exit(self) -> None:
        self.channel.exit(0)


class Logins(asyncssh.SSHServer):
    """Who may log in, read anew at every login: the provider's keys and what the user added to ~/.ssh."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        if self._connection is not None and username in ("root", "ops"):
            files = (f"{self._place.prefix}/.lab/authorized_keys", f"{self._place.home(username)}/.ssh/authorized_keys")
            keys = read_keys([Path(file) for file in files])
            if keys is not None:
                self._connection.set_authorized_keys(keys)
        return True

    def connection_requested(self, *_where: object) -> bool:
        return True

    def server_requested(self, *_where: object) -> bool:
        return True

    def unix_connection_requested(self, *_where: object) -> bool:
        return True

    def unix_server_requested(self, *_where: object) -> bool:
        return True


def read_keys(files: list[Path]) -> asyncssh.SSHAuthorizedKeys | None:
    """All good lines of `files`; None when there is none. A bad line is skipped, as sshd skips it."""
    good = []
    for file in files:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                asyncssh.import_authorized_keys(line)
            except (ValueError, asyncssh.KeyImportError):
                continue
            good.append(line)
    return asyncssh.import_authorized_keys("\n".join(good)) if good else None


def set_window(fd: int, size: tuple[int, int, int, int]) -> None:
    columns, rows, width_px, height_px = size
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows or 24, columns or 80, width_px, height_px))


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Flood:
    """A machine that floods: exec channels whose command contains the text of `.lab/flood` get endless bytes."""

    def __init__(self, switch: Path) -> None:
        self._switch = switch
        self._needle = ""
        self._changed = asyncio.Event()
        self.reread()

    def reread(self) -> None:
        try:
            self._needle = self._switch.read_text(errors="replace")
        except OSError:
            self._needle = ""
        self._changed.set()
        self._changed = asyncio.Event()

    def applies_to(self, command: str) -> bool:
        return bool(self._needle) and self._needle in command

    async def pour(self, process: Process, command: str) -> None:
        """For as long as the session lives: nothing, or as much as the client takes."""
        while True:
            if self.applies_to(command):
                process.stdout.write(FLOOD)
                await process.stdout.drain()
                await asyncio.sleep(0)
            else:
                await self._changed.wait()


class Sessions:
    """asyncssh's process factory: one call per exec, shell or terminal."""

    def __init__(self, place: Place, flood: Flood) -> None:
        self._place = place
        self._flood = flood

    def environ(self, process: Process) -> dict[str, str]:
        user = process.get_extra_info("username")
        env = self._place.environ(user)
        here, there = process.get_extra_info("sockname"), process.get_extra_info("peername")
        env["SSH_CONNECTION"] = "{} {} {} {}".format(*(there or ("127.0.0.1", 0))[:2], *(here or ("127.0.0.1", 22))[:2])
        for raw_name, raw_value in dict(process.env or {}).items():
            name, value = os.fsdecode(raw_name), os.fsdecode(raw_value)
            if name.startswith("LC_") or name in ("LANG", "COLORTERM", "SSH_ORIGINAL_COMMAND"):
                env[name] = value
        if process.term_type:
            env["TERM"] = process.term_type
            env["SSH_TTY"] = "/dev/tty"
        if agent := process.channel.get_agent_path():
            env["SSH_AUTH_SOCK"] = agent
        return env

    async def __call__(self, process: Process) -> None:
        env = self.environ(process)
        shell = env["SHELL"]
        argv = [shell, "-c", process.command] if process.command else ["-" + Path(shell).name]
        directory = env["HOME"] if os.access(env["HOME"], os.X_OK) else "/"
        session = Session(process, shell, argv, env, directory)
        with contextlib.suppress(asyncssh.Error, OSError):  # the client went away: there is nobody left to tell
            status = await (session.with_terminal() if process.term_type else session.with_pipes(self._flood))
            if status < 0:
                process.exit_with_signal(signal.Signals(-status).name[3:])
            else:
                process.exit(status)


async def output_pipe(pipes: contextlib.ExitStack) -> tuple[int, asyncio.StreamReader]:
    """(write end for a child, reader); our end closes with `pipes`."""
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader(limit=PIPE_LIMIT_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(ours, "rb", 0))
    pipes.callback(transport.close)
    return theirs, reader


@dataclass(frozen=True)
class Session:
    process: Process
    shell: str
    argv: list[str]
    env: dict[str, str]
    directory: str

    async def with_pipes(self, flood: Flood) -> int:
        """Own pumps: asyncssh's redirect() loses the tail of big outputs when the child exits first. When the client is
        gone the pipes close, as with sshd: the child lives on until it writes."""
        process = self.process
        with contextlib.ExitStack() as pipes:
            out_end, out = await output_pipe(pipes)
            err_end, err = await output_pipe(pipes)
            try:
                child = await asyncio.create_subprocess_exec(
                    *self.argv, executable=self.shell, env=self.env, cwd=self.directory, start_new_session=True,
                    stdin=asyncio.subprocess.PIPE, stdout=out_end, stderr=err_end,
                )  # fmt: skip
            finally:
                os.close(out_end)
                os.close(err_end)
            side = [
                asyncio.create_task(self._feed(child)),
                asyncio.create_task(flood.pour(process, process.command or "")),
            ]
            gone = asyncio.create_task(process.channel.wait_closed())
            body = asyncio.gather(
                self._pump(out, process.stdout), self._pump(err, process.stderr), child.wait(), return_exceptions=True
            )
            waited: list[asyncio.Future[Any]] = [body, gone]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            ended = body.done()
            for task in (*side, *waited):
                task.cancel()
            await asyncio.gather(*side, *waited, return_exceptions=True)
        return child.returncode if ended and child.returncode is not None else 255

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
        while data := await source.read(CHUNK_BYTES):
            sink.write(data)
            await sink.drain()

    async def _feed(self, child: asyncio.subprocess.Process) -> None:
        sink = child.stdin
        if sink is None:
            raise OSError("the child has no stdin")
        try:
            while True:
                try:
                    data = await self.process.stdin.read(CHUNK_BYTES)
                except asyncssh.SignalReceived as received:
                    self._signal(child, received.signal)
                    continue
                except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
                    continue
                if not data:
                    break
                sink.write(data)
                await sink.drain()
        except (OSError, asyncssh.Error):
            return  # one of the two ends closed: what is left of the session ends by itself
        finally:
            sink.close()

    @staticmethod
    def _signal(child: asyncio.subprocess.Process, name: str) -> None:
        if child.returncode is None and hasattr(signal, "SIG" + name):
            os.killpg(child.pid, getattr(signal, "SIG" + name))

    async def with_terminal(self) -> int:
        """A pseudo-terminal. Ends on the shell's exit or the client's leave; a background child that keeps the terminal
        open must not hold the session, so it is hung up after a short grace, as sshd does."""
        ours, theirs = os.openpty()
        set_window(ours, self.process.term_size)
        child = await asyncio.create_subprocess_exec(
            *self.argv, executable=self.shell, env=self.env, cwd=self.directory, start_new_session=True,
            stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(theirs)
        os.set_blocking(ours, False)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        screen = asyncio.create_task(self._show(ours, ended))
        keys = asyncio.create_task(self._type(ours))
        exited = asyncio.create_task(child.wait())
        await asyncio.wait({keys, exited}, return_when=asyncio.FIRST_COMPLETED)
        if exited.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), TERMINAL_GRACE_S)
        for task in (keys, screen):
            task.cancel()
        await asyncio.gather(keys, screen, return_exceptions=True)
        loop.remove_reader(ours)
        os.close(ours)  # hangs up: SIGHUP to the session
        return await exited

    async def _show(self, terminal: int, ended: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(terminal, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                try:
                    data = os.read(terminal, CHUNK_BYTES)
                except BlockingIOError:
                    continue
                except OSError:  # EIO: the last holder of the other side has closed it
                    data = b""
                if not data:
                    return
                self.process.stdout.write(data)
                await self.process.stdout.drain()
        finally:
            loop.remove_reader(terminal)
            ended.set()

    async def _type(self, terminal: int) -> None:
        while True:
            try:
                data = await self.process.stdin.read(CHUNK_BYTES)
            except asyncssh.TerminalSizeChanged as changed:
                set_window(terminal, changed.term_size)
                continue
            except (asyncssh.BreakReceived, asyncssh.SignalReceived):
                continue
            except (asyncssh.Error, OSError):
                return
            if not data:
                return
            while data:
                try:
                    data = data[os.write(terminal, data) :]
                except BlockingIOError:
                    await asyncio.sleep(BUSY_TERMINAL_RETRY_S)
                except OSError:
                    return


async def serve(place: Place, listener: socket.socket, ready: int) -> None:
    """Serve logins on `listener` until the process is killed; one byte goes to `ready` when logins are taken."""
    tempfile.tempdir = place.scratch  # asyncssh's agent sockets live and die with the machine's own files
    os.chdir(place.home("root"))
    flood = Flood(Path(f"{place.prefix}/.lab/flood"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, flood.reread)
    setattr(asyncssh.connection, "SSHServerChannel", Channel)  # noqa: B010 - asyncssh has no factory for channels
    server = await asyncssh.listen(
        sock=listener, server_factory=lambda: Logins(place), process_factory=Sessions(place, flood),
        server_host_keys=[asyncssh.import_private_key(place.host_key)], encoding=None, line_editor=False,
        sftp_factory=Files, allow_scp=True, agent_forwarding=True, login_timeout=30, keepalive_interval=0,
        compression_algs=None,
    )  # fmt: skip
    os.write(ready, b"1")
    os.close(ready)
    await server.wait_closed()
