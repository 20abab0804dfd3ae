"""The words of the command line: what is accepted where, what an error looks like, what nothing may do."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from core.cli import main
from core.cli.main import VERBS, run, understudy
from core.cli.session import Duration, operation_id
from core.domain.errors import all_kinds
from core.home import Home
from tests.cli.conftest import Verb


def commands() -> list[tuple[str, click.Command]]:
    """Every verb, and every verb of a noun, by its words."""
    found: list[tuple[str, click.Command]] = []
    context = click.Context(understudy, info_name="understudy")
    for name in VERBS:
        command = understudy.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found.extend((f"{name} {sub}", one) for sub, one in command.commands.items())
    return found


@pytest.mark.parametrize(("words", "command"), commands())
def test_every_verb_has_help_and_takes_the_three_words(words: str, command: click.Command) -> None:
    names = {option for p in command.params for option in p.opts}
    assert {"--home", "--json", "--yes"} <= names
    assert command.get_short_help_str()
    assert all(p.help for p in command.params if isinstance(p, click.Option)), words


def test_the_list_of_verbs_tells_the_truth() -> None:
    for target, line in VERBS.values():
        module, _, attribute = target.partition(":")
        assert isinstance(getattr(importlib.import_module(module), attribute), click.Command)
        assert line.endswith(".")


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys\nfrom core.cli.main import run\nassert run(sys.argv[1:]) == 0\n"
        "bad = {'textual','rich','asyncio','httpx','asyncssh','sqlalchemy','dbos','torch','keyring','numpy'}\n"
        "assert not bad & set(sys.modules), sorted(bad & set(sys.modules))"
    )
    for words in (["--help"], ["--version"]):
        subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)


def test_opening_the_door_leaves_the_heavy_ones_out() -> None:
    code = (
        "import sys, core.client, core.launch, core.config, core.secrets\n"
        "bad = {'textual','rich','httpx','asyncssh','sqlalchemy','dbos','torch','keyring','litestar'}\n"
        "assert not bad & set(sys.modules), sorted(bad & set(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"],
        ["offers", "--count", "zero"],
        ["up"],
        ["up", "x"],
        ["down"],
        ["down", "x", "--all"],
        ["budget", "set"],
        ["completion", "tcsh"],
        ["--nosuch"],
    ],
)
def test_wrong_usage_is_two_and_a_sentence(verb: Verb, words: list[str]) -> None:
    answer = verb(*words)
    assert answer.status == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert "Traceback" not in answer.err
    told = verb("--json", *words)
    assert told.status == 2
    assert told.json["error"]["kind"] == "UsageError"


def test_the_three_words_stand_anywhere(verb: Verb, home: Home) -> None:
    for words in (["--json", "config", "list"], ["config", "--json", "list"], ["config", "list", "--json"]):
        assert verb(*words).json["file"] == str(home.config_file)
    assert run(["config", "list", "--home", str(home.state), "--json"]) == 0


def test_an_unexpected_error_is_a_sentence_and_a_file(verb: Verb, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.create()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("core.config.load", broken)
    answer = verb("config", "list", "--json")
    assert answer.status == 1
    assert "Traceback" not in answer.err + answer.out
    assert "ZeroDivisionError" in answer.json["error"]["message"]
    (log,) = home.state.glob("understudy-*.log")
    assert str(log) in answer.json["error"]["hint"]
    assert "inside" in log.read_text()


def test_a_reader_that_leaves_is_no_error(home: Home) -> None:
    script = f"{sys.executable} -m core.cli --home {home.state} config list --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() in ("0", "1")


def test_the_console_is_refused_without_a_terminal(verb: Verb) -> None:
    answer = verb()
    assert answer.status == 4
    assert "terminal" in answer.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(verb: Verb, shell: str) -> None:
    answer = verb("completion", shell)
    assert answer.status == 0
    assert "_UNDERSTUDY_COMPLETE" in answer.out


@pytest.mark.parametrize(
    ("text", "value"), [("45s", 45), ("30m", 1800), ("8h", 28800), ("2d", 172800), ("1d12h", 129600), ("1.5h", 5400)]
)
def test_durations(text: str, value: float) -> None:
    assert Duration().convert(text, None, None) == value


@pytest.mark.parametrize("text", ["", "0", "h", "8x", "-1h", "1..2h", "0s", "8h3"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.UsageError):
        Duration().convert(text, None, None)


def test_operation_ids_are_of_one_form_and_differ() -> None:
    made = [operation_id("up") for _ in range(200)]
    assert len(set(made)) == 200
    assert all(len(i) <= 80 and i.isascii() and all(c.isalnum() or c == "-" for c in i) for i in made)


def test_exit_codes_are_those_of_the_contract() -> None:
    codes = {name: kind.exit_code for name, kind in all_kinds().items()}
    assert codes["ConfigError"] == main.USAGE == 2
    assert codes["NotFoundError"] == codes["MachineNotFound"] == 3
    assert codes["IntentRefused"] == codes["QuotaReached"] == 4
    assert codes["EngineError"] == codes["Unreachable"] == codes["AuthRefused"] == 5
    assert codes["NoCapacity"] == codes["Refused"] == 1


def test_secrets_come_from_stdin_and_are_never_shown(verb: Verb, home: Home) -> None:
    command = [sys.executable, "-m", "core.cli", "--home", str(home.state), "secrets", "set", "vast", "--json"]
    done = subprocess.run(command, input="k-123-secret\n", text=True, capture_output=True, check=True)
    assert "k-123" not in done.stdout + done.stderr
    listed = verb("secrets", "list", "--json")
    assert listed.json["secrets"] == [{"name": "vast", "source": "file", "set": True}]
    assert "k-123" not in verb("secrets", "list").out
    refused = verb("lab", "up", "--json")
    assert refused.status == 4
    assert "real keys" in refused.json["error"]["message"]
    assert not home.is_lab
    assert verb("secrets", "remove", "vast").status == 4
    assert verb("secrets", "remove", "vast", "--yes").status == 0
    assert verb("secrets", "remove", "vast", "--yes").status == 3


def test_config_by_words(verb: Verb, home: Home) -> None:
    assert verb("config", "set", "rent.disk_gb", "64", "--json").json == {"key": "rent.disk_gb", "value": 64.0}
    assert verb("config", "get", "rent.disk_gb").out == "64.0\n"
    assert verb("config", "get", "rent.disk_gb", "--json").json["origin"] == "file"
    assert verb("config", "get", "rent.nothing").status == 3
    assert verb("config", "set", "rent.attempts", "many").status == 2
    listed = verb("config", "list", "--json").json["settings"]
    assert {"key", "value", "origin", "type", "default", "environment", "doc"} == set(listed[0])
    home.config_file.write_text("[rent]\nodd = 1\n")
    answer = verb("config", "list", "--json")
    assert answer.status == 0
    assert len(answer.json["problems"]) == 1


def test_the_unit_is_shown_before_it_is_written(verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    answer = verb("engine", "install-service", "--dry-run", "--json")
    assert answer.status == 0
    unit = answer.json["unit"]
    assert f"ExecStart={sys.executable} -P -m core.engine run --home" in unit
    assert "NoNewPrivileges=yes" in unit
    refused = verb("engine", "install-service", "--json")
    assert refused.status == 4
    monkeypatch.setenv("PATH", str(tmp_path))
    without = verb("engine", "install-service", "--yes", "--json")
    assert without.status == 1
    assert "engine run" in without.json["error"]["hint"]
    assert not list(tmp_path.rglob("*.service"))
