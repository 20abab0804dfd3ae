"""OpenSSH with everything said explicitly. One rule: nothing is taken from the user's own configuration, and nothing is
trusted but the host key that was pinned for this machine."""

from __future__ import annotations

import re
import shlex
import shutil

from core.domain.api import Endpoint
from core.domain.errors import Refused, UnderstudyError

CONNECT_TIMEOUT_S = 15
KEEPALIVE_S = 15
KEEPALIVES_LOST_MAX = 4

_HOST = re.compile(r"[0-9A-Za-z:][0-9A-Za-z.:_%-]{0,252}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def command(endpoint: Endpoint, remote: str | None, *, terminal: bool = False) -> list[str]:
    """The argument list that runs `remote` on the machine, or its login shell. Raises Refused, UnderstudyError."""
    program = shutil.which("ssh")
    if program is None:
        raise UnderstudyError("OpenSSH's client is not installed.", hint="Install the package openssh-client.")
    words = [program, *options(endpoint), "-t" if terminal else "-T"]
    words += ["-p", str(endpoint.port), "-l", endpoint.user, "--", endpoint.host]
    return words if remote is None else [*words, remote]


def options(endpoint: Endpoint) -> list[str]:
    """Raises Refused for an address that a provider made up to be read as an option."""
    if not _HOST.fullmatch(endpoint.host) or not _USER.fullmatch(endpoint.user) or not 0 < endpoint.port < 65536:
        raise Refused("Its address is not one.", machine_id=endpoint.machine, hint="Destroy it and rent another one.")
    said = {
        # not -i: when that file is missing, ssh would offer the user's own keys to a host that nobody trusts
        "IdentityFile": _path(endpoint.identity_file),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": _path(endpoint.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": endpoint.alias,
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "PreferredAuthentications": "publickey",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        "EscapeChar": "none",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ConnectTimeout": str(CONNECT_TIMEOUT_S),
        "ServerAliveInterval": str(KEEPALIVE_S),
        "ServerAliveCountMax": str(KEEPALIVES_LOST_MAX),
        "LogLevel": "ERROR",
    }
    words = ["-F", "none"]
    for name, value in said.items():
        words += ["-o", f"{name}={value}"]
    return words


def in_workspace(endpoint: Endpoint, words: list[str]) -> str:
    """What the remote login shell is given: the arguments joined with blanks, as OpenSSH does, in the workspace."""
    return f"cd -- {shlex.quote(endpoint.workspace_dir)} || exit 255\n{' '.join(words)}"


def shell_in_workspace(endpoint: Endpoint) -> str:
    """A login shell; when the workspace is not there, where the machine puts one."""
    return f'cd -- {shlex.quote(endpoint.workspace_dir)}; exec "${{SHELL:-/bin/sh}}" -l'


def _path(value: str) -> str:
    """As ssh_config reads a file name: quoted for its blanks, `%` doubled."""
    return '"' + value.replace("%", "%%") + '"'
