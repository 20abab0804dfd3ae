"""What OpenSSH is told: everything, and nothing that a provider made up."""

from __future__ import annotations

import subprocess

import msgspec
import pytest

from core.cli import openssh
from core.domain.api import Endpoint
from core.domain.errors import Refused

ENDPOINT = Endpoint(
    machine="m-1",
    host="127.0.0.1",
    port=2222,
    user="root",
    identity_file="/home/me/a b/%h/id",
    known_hosts="/home/me/a b/%h/known_hosts",
    alias="understudy-m-1",
    workspace_dir="/workspace/it's",
)


def test_openssh_understands_it_as_it_is_meant() -> None:
    words = openssh.command(ENDPOINT, "true")
    shown = subprocess.run([words[0], "-G", *words[1:-1]], capture_output=True, text=True, check=True).stdout
    said = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    assert said["hostname"] == "127.0.0.1"
    assert said["user"] == "root"
    assert said["port"] == "2222"
    assert said["hostkeyalias"] == "understudy-m-1"
    assert said["stricthostkeychecking"] == "true"
    assert said["identitiesonly"] == "yes"
    assert said["forwardagent"] == "no"
    assert said["controlmaster"] == "false"
    assert said["escapechar"] == "none"
    assert "a b" in said["userknownhostsfile"]
    assert said["identityfile"].endswith("id")


@pytest.mark.parametrize("host", ["-oProxyCommand=sh", "a b", "", "x;y", "$(id)", "h\nost"])
def test_an_address_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(Refused):
        openssh.command(msgspec.structs.replace(ENDPOINT, host=host), "true")


@pytest.mark.parametrize("user", ["-lroot", "Root", "", "a b"])
def test_a_user_that_is_none_is_refused(user: str) -> None:
    with pytest.raises(Refused):
        openssh.command(msgspec.structs.replace(ENDPOINT, user=user), "true")


def test_a_command_runs_in_the_workspace_as_openssh_would_run_it(tmp_path: object) -> None:
    endpoint = msgspec.structs.replace(ENDPOINT, workspace_dir=str(tmp_path))
    remote = openssh.in_workspace(endpoint, ["echo", "$((1+1))", "&&", "pwd"])
    done = subprocess.run(["sh", "-c", remote], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2", str(tmp_path)]
    gone = openssh.in_workspace(msgspec.structs.replace(ENDPOINT, workspace_dir="/no/such"), ["echo", "no"])
    assert subprocess.run(["sh", "-c", gone], capture_output=True, check=False).returncode == 255
