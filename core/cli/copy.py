"""`understudy push` and `understudy pull`: copies into and out of a workspace, over its own SSH, with resume."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import click

from core.cli import courier, openssh
from core.cli.output import one_line, seconds
from core.cli.session import Session, Verb, is_terminal, pass_session, workspace_names
from core.domain.api import Endpoint
from core.domain.errors import HostKeyChanged, UnderstudyError, Unreachable
from core.domain.units import MIB

ATTEMPTS = 4  # a connection that breaks is made again, and the copy goes on where it was
_PAUSE_S = 1.0  # doubled each time: a network that blinks is waited for, one that is gone is said
_SHOW_EVERY_S = 0.1
_SAID_BYTES = 4096
_OTHER_KEY = "Host key verification failed."  # OpenSSH's last word, sshconnect.c


class CopyFailed(UnderstudyError):
    """Files could not be copied; those that could were."""


@click.command(cls=Verb)
@click.argument("name", shell_complete=workspace_names)
@click.argument("source", metavar="SRC", type=click.Path(exists=True))
@click.argument("destination", metavar="[DST]", required=False, default=".")
@pass_session
def push(session: Session, name: str, source: str, destination: str) -> None:
    """Copy SRC into workspace NAME, at DST there (its top by default).

    As cp: into a directory, else under that name; SRC/ copies what is in it. Run it again and it goes on where it was.
    """
    source = "/".join([str(Path(source).absolute()), *([""] if source.endswith("/") else [])])
    _copy(session, name, "push", source, destination)


@click.command(cls=Verb)
@click.argument("name", shell_complete=workspace_names)
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="[DST]", required=False, default=".", type=click.Path())
@pass_session
def pull(session: Session, name: str, source: str, destination: str) -> None:
    """Copy SRC of workspace NAME to DST here (this directory by default).

    As cp: into a directory, else under that name; SRC/ copies what is in it. Run it again and it goes on where it was.
    """
    _copy(session, name, "pull", source, destination)


def _copy(session: Session, name: str, verb: Literal["push", "pull"], source: str, destination: str) -> None:
    client = session.engine()
    endpoint = session.run(client.endpoint(name))
    started = time.monotonic()
    far, here = (destination, source) if verb == "push" else (source, destination)
    result = transfer(endpoint, verb, here, far, Meter().show)
    result["took_s"] = round(time.monotonic() - started, 3)
    if result["failed_count"]:
        names = ", ".join(one_line(str(n)) for n in result["failed"][:3])
        raise CopyFailed(f"{result['failed_count']} files changed or went away while they were copied: {names}.")
    session.out.document(result, lambda: session.out.say(_sentence(result)))


def _sentence(result: dict[str, Any]) -> str:
    count = result["files"]
    words = (
        f"{count} file{'s' * (count != 1)} at {result['path']}: {_size(result['bytes'])} in {seconds(result['took_s'])}"
    )
    if result["same"]:
        words += f", {result['same']} were there already"
    if result["left_out"]:
        words += f"; {result['left_out']} left out (neither file nor directory, or a link that leads outside)"
    return words + "."


def transfer(
    endpoint: Endpoint, verb: Literal["push", "pull"], here: str, far: str, progress: courier.Progress
) -> dict[str, Any]:
    """Copies; a broken connection is made again and the copy goes on. Raises CopyFailed, Unreachable."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _once(endpoint, verb, here, far, progress)
        except (EOFError, BrokenPipeError) as e:
            if attempt == ATTEMPTS:
                raise Unreachable(
                    f"The connection was lost {ATTEMPTS} times: {one_line(str(e))}",
                    machine_id=endpoint.machine,
                    hint="Run the same command again: it goes on where it was.",
                ) from e
            time.sleep(_PAUSE_S * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def _once(
    endpoint: Endpoint, verb: Literal["push", "pull"], here: str, far: str, progress: courier.Progress
) -> dict[str, Any]:
    code = Path(courier.__file__).read_text("utf-8")
    remote = f"exec python3 -I -S -c {shlex.quote(code)}"
    process = subprocess.Popen(
        openssh.command(endpoint, remote), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, inp, err = (cast(BinaryIO, stream) for stream in (process.stdin, process.stdout, process.stderr))
    said = _Said(err)
    try:
        courier.say(out, {"verb": verb, "below": endpoint.workspace_dir, "path": far})
        out.flush()
        work: Callable[..., dict[str, Any]] = courier.send if verb == "push" else courier.receive
        result = work(here, inp, out, progress)
        out.close()
        process.wait()
        return result
    except courier.CopyError as e:
        raise CopyFailed(one_line(str(e))) from e
    except (EOFError, BrokenPipeError) as e:
        process.kill()
        words = said.words()
        if words == _OTHER_KEY:
            hint = "Nothing was sent to it. Destroy the machine and rent another one."
            raise HostKeyChanged(
                f"Another machine answers in place of {endpoint.machine}: not with its host key.",
                machine_id=endpoint.machine,
                hint=hint,
            ) from e
        raise EOFError(words or str(e)) from e
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (out, inp, err):
            _close(stream)


def _close(stream: BinaryIO) -> None:
    with suppress(BrokenPipeError):  # what was still to be written was for someone who has gone
        stream.close()


class _Said:
    """The last of what ssh or the machine said on stderr, read while the copy runs, made harmless."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._tail = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def words(self) -> str:
        self._thread.join(timeout=1.0)
        lines = [line for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return one_line(lines[-1])[:200] if lines else ""

    def _read(self) -> None:
        while data := self._stream.read(1024):
            self._tail = (self._tail + data)[-_SAID_BYTES:]


class Meter:
    """Files, bytes and rate on one line of stderr, when someone looks."""

    def __init__(self) -> None:
        self._live = is_terminal()
        self._started = time.monotonic()
        self._shown = 0.0

    def show(self, files: int, of_files: int, count: int, of_bytes: int) -> None:
        now = time.monotonic()
        ended = files == of_files
        if not self._live or (now - self._shown < _SHOW_EVERY_S and not ended):
            return
        self._shown = now
        rate = count / max(now - self._started, 0.001)
        line = f"{files}/{of_files} files  {_size(count)} of {_size(of_bytes)}  {_size(rate)}/s"
        print(f"\r\x1b[2K{'' if ended else line}", end="", file=sys.stderr, flush=True)


def _size(count: float) -> str:
    if count < 1024:
        return f"{count:.0f} B"
    return f"{count / MIB:.1f} MiB" if count >= MIB / 10 else f"{count / 1024:.1f} KiB"
