"""`understudy completion SHELL`: the script that teaches a shell our verbs."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from core.cli.session import Session, Verb, pass_session

_WHERE = {
    "bash": 'eval "$(understudy completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(understudy completion zsh)"   # in ~/.zshrc',
    "fish": "understudy completion fish | source   # in ~/.config/fish/config.fish",
}


@click.command(cls=Verb, epilog="\b\n" + "\n".join(_WHERE.values()))
@click.argument("shell", type=click.Choice(sorted(_WHERE)))
@pass_session
@click.pass_context
def completion(context: click.Context, session: Session, shell: str) -> None:
    """Print the completion script for a shell."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    root = context.find_root().command
    script = kind(root, {}, "understudy", "_UNDERSTUDY_COMPLETE").source()
    session.out.document({"shell": shell, "script": script}, lambda: print(script))
