"""Which Understudy this is. One rule: the number is written once, in pyproject.toml."""

from __future__ import annotations

from pathlib import Path


def version() -> str:
    """The installed distribution's version; in a checkout that is not installed, what its pyproject.toml says."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("understudy")
    except PackageNotFoundError:
        import tomllib

        project = Path(__file__).resolve().parent.parent / "pyproject.toml"
        return str(tomllib.loads(project.read_text("utf-8"))["project"]["version"])
