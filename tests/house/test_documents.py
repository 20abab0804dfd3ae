"""The documents say what is so: folders, keys, verbs, make targets, links and versions that they name exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from core import __version__
from core.cli.main import VERBS, understudy
from tests.house.tree import ROOT
from tui.actions import ACTIONS, shown

README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")
CHANGELOG = (ROOT / ".github/CHANGELOG.md").read_text("utf-8")
DECISIONS = sorted((ROOT / ".github/decisions").glob("*.md"))
HEADINGS = ["## Context", "## Choice", "## What would change our mind"]
MAP = README.partition("## The map of the house")[2].partition("```")[2].partition("```")[0]


def test_the_map_names_every_folder() -> None:
    named = {match.group(1) for match in re.finditer(r"^\s*(\.?[\w.]+/)", MAP, re.MULTILINE)}
    top = {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and list(path.rglob("*.py"))} - {
        ".venv/",
        "build/",
    }
    core = {f"{path.name}/" for path in (ROOT / "core").iterdir() if path.is_dir() and list(path.glob("*.py"))}
    missing = {name for name in {*top, *core} if name not in named and not name.startswith(".venv")}
    assert not missing


def test_the_map_names_nothing_that_is_gone() -> None:
    for line in MAP.splitlines():
        if match := re.match(r"(  )?(\.?[\w.]+/?)\s", line):
            place = ROOT / "core" / match.group(2) if match.group(1) else ROOT / match.group(2)
            assert place.exists(), place


def _keys_of_the_readme() -> Iterator[str]:
    table = README.partition("## Keys")[2].partition("\n## ")[0]
    for row in table.splitlines():
        if row.startswith("| `"):
            cells = [cell.strip() for cell in row.strip("|").split(" | ")]
            for cell in cells[::2]:
                yield from re.findall(r"`([^`]+)`", cell)


def test_the_keys_of_the_readme_are_the_consoles() -> None:
    known = {shown(key) for action in ACTIONS for key in action.keys}
    told = list(_keys_of_the_readme())
    assert len(told) > 20, "the test no longer reads the table"
    assert not [key for key in told if key not in known]


def test_every_verb_is_told_of() -> None:
    assert not [verb for verb in VERBS if not re.search(rf"\b{verb}\b", CHANGELOG)]


def _commands() -> list[str]:
    """Every command line of ours in the documents, without comments, pipes and what stands around it."""
    found = re.findall(r"(?<![\w/.-])understudy ([a-z][^`|#&\n)]*)", README + CONTRIBUTING)
    return sorted({command.strip().rstrip(".,;") for command in found})


@pytest.mark.parametrize("line", _commands())
def test_a_command_of_the_readme_is_understood(line: str) -> None:
    words = shlex.split(line.partition(" -- ")[0].replace('"', "'") + " ", comments=True)
    command: click.Command = understudy
    context = click.Context(understudy, info_name="understudy")
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        found = command.get_command(context, word)
        assert found is not None, f"there is no verb {word!r}"
        command = found
    options = {name for parameter in command.params for name in parameter.opts}
    assert not [word for word in words if word.startswith("--") and word not in options]


def test_make_targets_of_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", README + CONTRIBUTING, re.MULTILINE))
    assert named >= {"demo", "test", "check", "install"}
    assert not [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#\s]+)", README)
    assert not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_the_changes_have_this_version() -> None:
    assert re.search(rf"^## {re.escape(__version__)}\b", CHANGELOG, re.MULTILINE)


@pytest.mark.parametrize("number", range(1, len(DECISIONS) + 1))
def test_a_decision_says_why_and_what_would_change_it(number: int) -> None:
    path = DECISIONS[number - 1]
    text = path.read_text("utf-8")
    assert path.name.startswith(f"{number:03d}-")
    assert text.startswith(f"# {number:03d} · ")
    assert re.findall(r"^## .*", text, re.MULTILINE) == HEADINGS


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_the_tested_set_names_every_dependency() -> None:
    pinned = {
        re.split("==", line)[0].casefold().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    block = text.partition("dependencies = [")[2].partition("]\n\n[project.scripts]")[0]
    needed = {match.casefold() for match in re.findall(r'^\s+"([A-Za-z0-9-]+)', block, re.MULTILINE)}
    assert {"textual", "pytest", "asyncssh"} <= needed
    assert not needed - pinned
