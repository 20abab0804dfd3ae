"""One quick engine over one lab without machines, for all tests of a module; each leaves an empty account.

On SQLite, and on PostgreSQL too when UNDERSTUDY_TEST_POSTGRES names a server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from tests.engine.running_engine import RunningEngine
from tests.store.postgresql import KINDS, server_database


@pytest.fixture(scope="module", params=KINDS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    with ExitStack() as stack:
        url = stack.enter_context(server_database()) if request.param == "postgresql" else ""
        engine = RunningEngine(tmp_path_factory.mktemp("q"), quick=True, database_url=url)
        stack.callback(engine.close)
        yield engine.open()


@pytest.fixture
async def engine(running: RunningEngine) -> AsyncIterator[RunningEngine]:
    yield running
    await running.empty()
