"""One shipped engine over one lab without machines, for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.running_engine import RunningEngine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    running = RunningEngine(tmp_path_factory.mktemp("e"), quick=False)
    try:
        yield running.open()
    finally:
        running.close()
