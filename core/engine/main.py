"""The engine's life: start, serve, stop. One rule: kill -9 at any line of this is safe; everything else is comfort."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from logging.handlers import RotatingFileHandler
from typing import Any

import uvicorn

from core import __version__
from core.config import load
from core.domain.errors import EngineError, UnderstudyError
from core.domain.events import Said
from core.engine.api import build as build_api
from core.engine.compose import Engine, build
from core.engine.socket import SameUserProtocol, Server, hold_lock, listen, notify_service_manager
from core.home import Home
from core.operations import durable
from core.store.database import create_private_file, sqlite_url

log = logging.getLogger("understudy")

RESTART_S = 1.0
PR_SET_PDEATHSIG = 1


def run(home: Home, *, with_parent: bool = False) -> int:
    """Runs the engine of this home until it is told to stop; returns the exit code when it could not serve."""
    try:
        home.create()
        _logging(home, load(home).settings.engine.log_level)
        lock = hold_lock(home)
        if with_parent:
            _die_with_parent()
        asyncio.run(_serve(home, lock))
    except UnderstudyError as e:
        print(f"{e} {e.hint}".strip(), file=sys.stderr)  # noqa: T201 - the one who started us reads it
        return e.exit_code
    except OSError as e:  # a full disk, a folder that is not ours: nothing was begun
        where = e.filename or home.state
        print(f"The home cannot be used: {e.strerror or e} ({where}).", file=sys.stderr)  # noqa: T201
        return EngineError.exit_code
    return 0


async def _serve(home: Home, lock: int) -> None:
    began = time.monotonic()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    heed_signals(loop, stop)
    loaded = load(home)
    engine = await build(home, loaded, version=__version__, stop=stop.set)
    door = listen(home.socket)  # clients may connect; they wait in the backlog
    url = loaded.settings.engine.operations_url or loaded.settings.engine.database_url
    dbos = durable.launch(url or sqlite_url(home.operations_database), create_private_file=create_private_file)
    server = Server(
        uvicorn.Config(
            build_api(engine.parts),
            http=SameUserProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=60,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[door]), name="serve")
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    watches = [asyncio.create_task(_forever(w), name=getattr(w, "__qualname__", "watch")) for w in engine.watches]
    await engine.store.say(Said(kind="engine_started", detail={"version": __version__, "pid": os.getpid()}))
    gc.collect()
    gc.freeze()
    notify_service_manager("READY=1")
    log.info("serving after %.2f s", time.monotonic() - began)
    await asyncio.wait([serving, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    await _stop(engine, server, serving, watches, dbos)
    home.socket.unlink(missing_ok=True)
    os.close(lock)
    logging.shutdown()
    os._exit(0)  # DBOS's threads would hold us for up to a second; a kill is safe by design, so is this


def heed_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Sets `stop` at SIGTERM, SIGINT and SIGHUP, whatever the loop is busy with.

    Not by add_signal_handler: there the loop hears of a signal by a byte in a pipe, and under a storm of finished
    threads that pipe is full and the byte is lost.
    """
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(one, lambda *_: loop.call_soon_threadsafe(stop.set))


async def _forever(run: Callable[[], Any]) -> None:
    """A watcher must not die of what it did not foresee: it is logged and begins again."""
    while True:
        try:
            await run()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a watcher failed and begins again")
            await asyncio.sleep(RESTART_S)
        else:
            return


async def _stop(
    engine: Engine, server: Server, serving: asyncio.Task[None], watches: list[asyncio.Task[None]], dbos: Any
) -> None:
    notify_service_manager("STOPPING=1")
    try:
        await engine.store.say(Said(kind="engine_stopped"))
    except UnderstudyError as e:
        log.warning("the stop could not be written: %s", e)
    engine.feed.close()
    server.should_exit = True
    for task in watches:
        task.cancel()
    await durable.stop(dbos, leaving=True)
    await _gently(asyncio.wait([serving], timeout=1.0))
    await _gently(engine.context.reach.close())
    for provider in engine.context.providers.values():
        await _gently(provider.close())
    await _gently(engine.history.close())
    await _gently(engine.store.close())


async def _gently(work: Coroutine[Any, Any, Any]) -> None:
    """What does not end within a second is left to the kernel."""
    try:
        await asyncio.wait_for(work, 1.0)
    except (TimeoutError, UnderstudyError, OSError) as e:
        log.warning("left behind at the stop: %r", e)


def _logging(home: Home, level: str) -> None:
    handler = RotatingFileHandler(home.log, maxBytes=4 * 1024 * 1024, backupCount=2)
    home.log.chmod(0o600)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handler.addFilter(_terse)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("asyncssh", "httpx", "httpcore", "litestar", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _terse(record: logging.LogRecord) -> bool:
    """DBOS tells a database that is away as a stack, several times a second; a line says as much."""
    if record.name.startswith("dbos") and record.levelno < logging.ERROR:
        record.msg, record.args = record.getMessage().partition("\n")[0].partition(": Traceback")[0], ()
        record.exc_info = record.exc_text = record.stack_info = None
    return True


def _die_with_parent() -> None:
    """For a demo: SIGTERM when the process that started us is gone (Linux; elsewhere the demo ends us itself)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
