"""What is installed is whole: the wheel's own console finds its themes and style sheets, and nothing else is in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from core import __version__
from tests.house.tree import ROOT

SOURCES = ("core", "tui", "themes", "pyproject.toml", "README.md", "LICENSE")
_ASK = """
import pathlib, sys
site = sys.argv[1]
sys.path.insert(0, site)
import tui.app, tui.themes
from core.remote import agent_archive
assert pathlib.Path(tui.app.__file__).is_relative_to(site)
loaded = tui.themes.load()
assert not loaded.complaints, loaded.complaints
assert tui.themes.DEFAULT in loaded.themes and len(loaded.themes) >= 5, sorted(loaded.themes)
assert len(agent_archive.build().data) > 1000
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, made from a copy so that the tree stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)],
        check=True,
        capture_output=True,
        timeout=150,
    )
    (made,) = folder.glob("*.whl")
    return made


def test_a_wheel_has_what_the_tree_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    here = {
        path.relative_to(ROOT).as_posix()
        for folder in ("core", "tui", "themes")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".tcss", ".toml")
    }
    assert names == here
    assert f"understudy-{__version__}-" in wheel.name


def test_an_installed_console_is_whole(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "UNDERSTUDY"))}
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(site)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
