"""What is loaded when something starts, asked of a fresh interpreter; the contracts of pyproject.toml say who may."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import pytest

from tests.house.tree import ROOT, modules

HEAVY = ("textual", "torch", "google", "dbos", "sqlalchemy")
ENGINE_SIDE = ("torch", "google", "dbos", "sqlalchemy", "litestar", "uvicorn", "asyncssh", "httpx")
PYTHON_OF_THE_MACHINE = (3, 8)
_ASK = """
import json, sys
{code}
packages = {{name.partition(".")[0] for name in sys.modules}}
print(json.dumps(sorted(packages | {{name for name in sys.modules if name.startswith("core.")}})))
"""


def loaded_after(code: str, *flags: str) -> set[str]:
    """Top-level packages, and modules of core, in a new interpreter that has run `code`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("UNDERSTUDY", "COV"))}
    answer = subprocess.run(
        [sys.executable, *flags, "-c", _ASK.format(code=code)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_the_client_is_light() -> None:
    loaded = loaded_after("import core.client")
    assert not loaded & {*HEAVY, *ENGINE_SIDE, "rich"}


def test_help_is_light() -> None:
    loaded = loaded_after("from core.cli.main import run; run(['--help'])")
    assert not loaded & {*HEAVY, *ENGINE_SIDE, "rich", "asyncio", "tui"}


def test_a_verb_is_light() -> None:
    verbs = "machines", "offers", "up", "down", "status", "events", "operations", "workspaces", "ssh", "copy", "budget"
    loaded = loaded_after("".join(f"import core.cli.{verb}\n" for verb in verbs))
    assert not loaded & {*HEAVY, *ENGINE_SIDE, "tui"}


def test_the_console_has_no_engine_in_it() -> None:
    screens = [m.path.removesuffix(".py").replace("/", ".") for m in modules("tui") if "__main__" not in m.path]
    loaded = loaded_after("".join(f"import {name}\n" for name in screens) + "import core.client")
    assert "textual" in loaded
    assert not loaded & set(ENGINE_SIDE)
    assert not {
        name for name in loaded if name.startswith(("core.engine", "core.providers", "core.store", "core.lab."))
    }


def test_the_console_paints_before_its_toolkit_is_there() -> None:
    assert not loaded_after("import tui.main") & {"textual", "rich", "asyncio", "msgspec"}


def test_the_agent_needs_nothing_but_python() -> None:
    names = [m.path.removesuffix(".py").replace("/", ".") for m in modules("core/agent")]
    code = f"sys.path.insert(0, {str(ROOT)!r})\n" + "".join(f"import {name}\n" for name in names)
    loaded = loaded_after(code, "-I", "-S")
    ours = {"core", "__main__"}
    assert {name for name in loaded if "." not in name} - ours <= set(sys.stdlib_module_names) | {"sitecustomize"}
    assert all(name.startswith("core.agent") for name in loaded if name.startswith("core."))


@pytest.mark.parametrize("folder", ["core/agent", "core/cli/courier.py"])
def test_what_runs_on_a_machine_is_python_3_8(folder: str) -> None:
    path = ROOT / folder
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        ast.parse(file.read_text("utf-8"), file, feature_version=PYTHON_OF_THE_MACHINE)


def test_the_domain_is_standard_library_and_msgspec() -> None:
    foreign = _foreign("core/domain", allowed=("core.domain", "msgspec"))
    assert not foreign


def test_rendering_is_standard_library_and_the_domain() -> None:
    foreign = _foreign("tui/render", allowed=("core.domain", "tui.render"))
    assert not foreign


def test_the_lab_imports_nothing_of_ours() -> None:
    ours = {name for name in _imported("core/lab") if name.startswith(("core", "tui"))}
    assert not {name for name in ours if not name.startswith("core.lab")} - {"core"}
    package = next(m for m in modules("core/lab") if m.path == "core/lab/__init__.py")
    assert len(package.syntax.body) == 1, "the keeper stays slim: its package imports nothing"


def _foreign(folder: str, allowed: tuple[str, ...]) -> set[str]:
    return {
        name
        for name in _imported(folder)
        if not name.startswith(allowed) and name.partition(".")[0] not in sys.stdlib_module_names
    }


def _imported(folder: str) -> set[str]:
    found = set()
    for module in modules(folder):
        for node in ast.walk(module.syntax):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found
