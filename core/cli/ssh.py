"""`understudy ssh NAME [-- CMD...]`: a shell or a command in a workspace, by OpenSSH's own client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from core.cli import objects, openssh
from core.cli.output import one_line
from core.cli.session import Session, Verb, pass_session, workspace_names

# What a remote program may have left on: alternate screen, colours, a hidden cursor, mouse and focus reports,
# bracketed paste, application keys, a character set. xterm's control sequences.
_RESET = (
    "\x1b[?1049l\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>"
    "\x1b(B\x0f"
)


@click.command(cls=Verb)
@click.argument("name", shell_complete=workspace_names)
@click.argument("command", nargs=-1, metavar="[-- CMD...]")
@click.option("-t", "terminal", is_flag=True, help="Give the command a terminal, as for top.")
@pass_session
@click.pass_context
def ssh(context: click.Context, session: Session, name: str, command: tuple[str, ...], terminal: bool) -> None:
    """A shell in workspace NAME, or a command run there by its login shell.

    Put -- before a command with options of its own. The remote status is passed on; 255 is our own failure.
    With --json the command line that would be run, and nothing is run.
    """
    client = session.engine()
    endpoint = session.run(client.endpoint(name))
    interactive = not command
    remote = openssh.shell_in_workspace(endpoint) if interactive else openssh.in_workspace(endpoint, list(command))
    words = openssh.command(endpoint, remote, terminal=terminal or (interactive and sys.stdin.isatty()))
    if session.json:
        session.out.line({"endpoint": objects.endpoint(endpoint), "command": words})
        return
    if endpoint.warning:
        session.out.note(f"▲ {one_line(endpoint.warning)}")
    sys.stdout.flush()
    if not (interactive or terminal):
        os.execv(words[0], words)  # noqa: S606 - no shell is what is wanted: status and signals are then ssh's own
    with terminal_restored():
        context.exit(_run(words))


def _run(words: list[str]) -> int:
    """The remote status. Ctrl-C belongs to the machine while ssh has the terminal."""
    # a handler, not SIG_IGN: that would be inherited by ssh
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = subprocess.Popen(words).wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


@contextmanager
def terminal_restored() -> Iterator[None]:
    """Whatever a remote program did to the terminal, it is afterwards as it was before."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield
        return
    saved = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        with suppress(termios.error, OSError):  # the terminal's window was closed: nothing is left to put right
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
            sys.stdout.write(_RESET)
            sys.stdout.flush()
