"""The entry of `understudy`: the list of verbs, and what an error looks like. One rule: no verb's module is loaded for
help, a version or another verb; never a traceback."""

from __future__ import annotations

import importlib
import os
import sys

import click

from core.cli.session import Noun, Session
from core.domain.errors import UnderstudyError

USAGE, INTERRUPTED, FAILED, OWN_SSH_FAILURE = 2, 130, 1, 255

# verb -> where it lives, and its line of help: a literal, so that the list costs nothing
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("core.cli.demo:demo", "Try everything in an embedded cloud; no account needed."),
    "status": ("core.cli.status:status", "What runs, bills, is at risk, is failing."),
    "offers": ("core.cli.offers:offers", "The market now."),
    "up": ("core.cli.up:up", "Rent a machine and have a workspace on it."),
    "down": ("core.cli.down:down", "Retire a workspace, or everything at once."),
    "list": ("core.cli.workspaces:list_", "All workspaces."),
    "show": ("core.cli.workspaces:show", "One workspace in full."),
    "ssh": ("core.cli.ssh:ssh", "A shell or a command in a workspace."),
    "push": ("core.cli.copy:push", "Copy files into a workspace; resumes."),
    "pull": ("core.cli.copy:pull", "Copy files out of a workspace; resumes."),
    "machines": ("core.cli.machines:machines", "Machines as such, strangers included."),
    "hosts": ("core.cli.hosts:hosts", "How hosts behaved; block one."),
    "operations": ("core.cli.operations:operations", "What is under way and how it went."),
    "events": ("core.cli.events:events", "The journal of everything that happened."),
    "budget": ("core.cli.budget:budget", "The hard limits and what is spent."),
    "secrets": ("core.cli.secrets:secrets", "Store and remove keys of providers."),
    "config": ("core.cli.config:config", "Read and change settings."),
    "doctor": ("core.cli.doctor:doctor", "Check keys, SSH, clock, disk and the rest."),
    "engine": ("core.cli.engine:engine", "The daemon behind it all."),
    "lab": ("core.cli.lab:lab", "The embedded cloud, and its faults."),
    "completion": ("core.cli.completion:completion", "Completion for bash, zsh or fish."),
}
_HELP_HEAD = "Verbs"


class Understudy(Noun):
    """The root: a verb's module is imported when that verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click hands it over
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section(_HELP_HEAD):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])


class UsageError(UnderstudyError):
    """The words of the command line are wrong."""

    exit_code = USAGE


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if not value:
        return
    from core import __version__

    session = context.ensure_object(Session)
    if session.json:
        session.out.line({"version": __version__})
    else:
        print(f"understudy {__version__}")
    context.exit()


@click.group(cls=Understudy, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, callback=_show_version, expose_value=False, help="Show the version.")
@click.pass_context
def understudy(context: click.Context) -> None:
    """The console for rented GPUs: a workspace outlives the machines it runs on.

    Without a verb it opens the console.
    """
    if context.invoked_subcommand is None:
        from core.cli.console import open_console

        context.exit(open_console(context.ensure_object(Session)))


def main() -> None:
    """Runs the command line and exits with its status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit status; every error is answered here and nowhere else."""
    session = Session(json="--json" in _before_dashes(arguments))
    try:
        status = understudy.main(arguments, prog_name="understudy", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        return _usage(session, e)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except UnderstudyError as e:
        session.out.error(e)
        return OWN_SSH_FAILURE if _is_ssh(arguments) else e.exit_code
    except BrokenPipeError:
        # the reader has gone, as with `| head`; the interpreter's own flush at exit must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as e:  # noqa: BLE001 - the last resort is a sentence, and the traceback in a file
        session.out.error(_unexpected(session, e))
        return FAILED


def _usage(session: Session, error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "understudy"
    session.out.error(UsageError(error.format_message(), hint=f"How it is used: {command} --help."))
    return USAGE


def _unexpected(session: Session, error: Exception) -> UnderstudyError:
    """One sentence and the path of a file with the traceback; it is not written where nothing can be."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="understudy-", suffix=".log", dir=_log_folder(session), delete=False
        ) as log:
            log.write(text)
        hint = f"What happened in detail: {log.name}."
    except OSError as e:
        hint = f"The details could not be written: {e.strerror}."
    return UnderstudyError(f"Something unexpected happened: {type(error).__name__}.", hint=hint)


def _log_folder(session: Session) -> str | None:
    state = session.home.state
    return str(state) if state.is_dir() else None


def _before_dashes(arguments: list[str]) -> list[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _is_ssh(arguments: list[str]) -> bool:
    """`ssh` passes the remote status on, so that its own failures need a number of their own, as OpenSSH's do."""
    words = iter(_before_dashes(arguments))
    for word in words:
        if word == "--home":
            next(words, None)
        elif not word.startswith("-"):
            return word == "ssh"
    return False
