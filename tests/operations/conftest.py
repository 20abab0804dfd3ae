"""One quick engine over one lab without machines, for all tests of a module; each leaves an empty account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.engine.running_engine import RunningEngine


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    engine = RunningEngine(tmp_path_factory.mktemp("q"), quick=True)
    try:
        yield engine.open()
    finally:
        engine.close()


@pytest.fixture
async def engine(running: RunningEngine) -> AsyncIterator[RunningEngine]:
    yield running
    await running.empty()
