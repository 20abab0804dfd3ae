"""DBOS, tamed: the only module that knows how it is configured, started and stopped.

One rule: `launch` is called on the thread of the running loop, after everything that a recovered operation needs
exists: recovery starts inside it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa

for _name in [n for n in os.environ if n.startswith("DBOS")]:
    del os.environ[_name]  # DBOS__APPVERSION, DBOS__VMID, the cloud switch … would override the configuration

from dbos import DBOS, DBOSConfig, SetWorkflowID  # noqa: E402

from core.operations.codec import DurableJson, forbid_pickle  # noqa: E402

OPERATIONS_VERSION = "1"  # raised only when a change would break the replay of operations that are open
SUBSECONDS_SINCE = (3, 42, 0)  # SQLite's unixepoch('subsec'), on which DBOS relies wherever Python is 3.12 or newer
MAX_RECOVERY_ATTEMPTS = 1000  # DBOS's default of 100 parks an operation for good at the 101st restart
_NOISE = ("console.dbos.dev", "already exists in queue", "task cancelled for", "not the latest version")
_EXPECTED = ("DBOSAwaitedWorkflowCancelledError", "DBOSWorkflowCancelledError", "CancelledError")


class _Quiet(logging.Filter):
    """Turns DBOS's expected noise (recoveries, cancellations, a sign-up hint) down to debug."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        raised = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        if any(words in message for words in _NOISE) or raised in _EXPECTED:
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            return logging.getLogger().isEnabledFor(logging.DEBUG)
        return True


def launch(url: str, *, create_private_file: Callable[[Path], None]) -> DBOS:
    """Starts DBOS on this loop and lets open operations go on. Blocks for about 0.1 s: before serving."""
    asyncio.get_running_loop()
    forbid_pickle()
    log = logging.getLogger("dbos")
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # with a handler present DBOS adds no console of its own
        log.addFilter(_Quiet())
    log.propagate = True
    if url.startswith("sqlite:///"):
        _teach_old_sqlite()
        create_private_file(Path(url.removeprefix("sqlite:///")))
    config: DBOSConfig = {
        "name": "understudy",
        "system_database_url": url,
        "application_version": OPERATIONS_VERSION,
        "executor_id": "engine",
        "serializer": DurableJson(),
        "enable_otlp": False,
        "log_level": "WARNING",
        "max_executor_threads": 16,
        "sys_db_pool_size": 5,
        "notification_listener_polling_interval_sec": 0.1,
    }
    instance = DBOS(config=config)
    DBOS.launch()
    return instance


def _teach_old_sqlite() -> None:
    """DBOS takes a new Python for a sign of a new SQLite; on a system whose SQLite is older its times would be null."""
    if sqlite3.sqlite_version_info < SUBSECONDS_SINCE and not sa.event.contains(sa.Engine, "connect", _subseconds):
        sa.event.listen(sa.Engine, "connect", _subseconds)


def _subseconds(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.create_function("unixepoch", 1, lambda word: time.time() if word == "subsec" else None)


async def stop(instance: DBOS, *, leaving: bool) -> None:
    """Leaves open operations as they are: they go on after the next start.

    `leaving`: the process ends right after, so DBOS's own threads are not waited for (destroying takes up to 1 s).
    """
    tasks = list(instance._workflow_tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=0.3)
    if leaving:
        return
    loop = asyncio.get_running_loop()
    own = ThreadPoolExecutor(1)  # not the default executor: DBOS made its own pool the loop's default
    await loop.run_in_executor(own, DBOS.destroy)
    own.shutdown(wait=False)
    loop.set_default_executor(ThreadPoolExecutor(4))


async def start(function: Callable[..., Coroutine[Any, Any, Any]], operation: str, *args: Any) -> None:
    """Starts it under this id; the same id starts once, whatever the arguments."""
    with SetWorkflowID(operation):
        await DBOS.start_workflow_async(function, *args)


async def state_of(operation: str) -> str | None:
    """DBOS's word for it (PENDING, SUCCESS, ERROR, CANCELLED …); None when it never heard of it."""
    status = await DBOS.get_workflow_status_async(operation)
    return None if status is None else str(status.status)


async def cancel(operation: str) -> None:
    """Stops further steps; the one that runs finishes. The ledger was told before."""
    await DBOS.cancel_workflow_async(operation)


async def forget_older_than(completed_before: str) -> int:
    """Removes ended operations from DBOS's tables (ours keep their facts); returns how many. RFC 3339 time."""
    count = 0
    while True:
        ended = await DBOS.list_workflows_async(
            status=["SUCCESS", "ERROR", "CANCELLED"],
            end_time=completed_before,
            limit=200,
            load_input=False,
            load_output=False,
        )
        if not ended:
            return count
        await DBOS.delete_workflows_async([w.workflow_id for w in ended])
        count += len(ended)
