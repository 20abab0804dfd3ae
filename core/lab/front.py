"""The lab's process: one world, its fronts and its control API on loopback, one pump that carries out effects.

Its one rule: what the world has decided is saved before anything real happens, so that kill -9 here loses nothing:
the next front finds the machines alive, adopts them, and carries out what was pending.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from core.lab.asgi import (
    Answer,
    BadRequest,
    Receive,
    Request,
    Scope,
    Send,
    answer,
    break_connection,
    read_request,
    send_answer,
)
from core.lab.clock import Clock
from core.lab.control import Control, local_only
from core.lab.faults import Faults
from core.lab.home import LabHome, listen, write_private
from core.lab.machines import ClockMachines, Machines
from core.lab.pacing import VAST_MIN_INTERVAL_S, Pacer
from core.lab.pump import Pump
from core.lab.vast import VastFront
from core.lab.vast_context import VastContext
from core.lab.world import World

if TYPE_CHECKING:
    from core.lab.host import Host

PARENT_LOOK_S = 0.25
SHUTDOWN_GRACE_S = 2


@dataclass(frozen=True)
class LabOptions:
    """What `up` was asked for. `boot_s`: lab seconds from a create call to running; None lets boots differ around
    DEFAULT_BOOT_S.
    """

    home: Path
    seed: int = 7
    scale: int = 1
    speed: float = 1.0
    boot_s: float | None = None
    pacing: bool = True
    with_parent: bool = False
    manual_clock: bool = False
    machines: bool = True


DEFAULT_BOOT_S, DEFAULT_JITTER = 8.0, 0.25


class _Protocol(H11Protocol):
    """uvicorn's h11 protocol, which also lets a front break the connection."""

    def __init__(self, config: uvicorn.Config, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, {**app_state, "abort": self._abort}, _loop)

    def _abort(self) -> None:
        self.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the lab has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Lab:
    """All of it, wired up; `run` returns when it was told to stop."""

    def __init__(self, options: LabOptions) -> None:
        self.options = options
        self.home = LabHome(options.home)
        self.identity = self.home.identity()
        clock = Clock(speed=options.speed, manual=options.manual_clock)
        boot_s = DEFAULT_BOOT_S if options.boot_s is None else options.boot_s
        jitter = DEFAULT_JITTER if options.boot_s is None else 0.0
        self.world = World(
            clock, seed=options.seed, scale=options.scale, boot_s=boot_s, jitter=jitter, state=self.home.load()
        )
        self._apps: dict[int, VastFront | Control] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; then everything ends: machines, ports, lab.json."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.home.close)
            machines = await stack.enter_async_context(self._machines())
            pump = Pump(self.world, machines, self.home)
            sockets = self._wire(machines, pump)
            tasks = [asyncio.create_task(pump.run())]
            if self.options.with_parent:
                tasks.append(asyncio.create_task(self._follow_parent(os.getppid())))
            if machines.host is not None:
                tasks.append(asyncio.create_task(self._watch_deaths(machines.host, pump)))
            server = self._server()
            serving = asyncio.create_task(server.serve(sockets=sockets))
            stopped = asyncio.create_task(self._stopping.wait())
            try:
                self._announce()
                await asyncio.wait([stopped, serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.home.announcement.unlink(missing_ok=True)
                server.should_exit = True
                for task in [stopped, *tasks]:
                    task.cancel()
                results = await asyncio.gather(serving, stopped, *tasks, return_exceptions=True)
                await pump.finish()
                self.world.state.paused = True
                self.home.save(self.world.snapshot())
            for result in results:
                if isinstance(result, Exception):
                    raise result

    def stop(self) -> None:
        """End the lab."""
        self._stopping.set()

    @contextlib.asynccontextmanager
    async def _machines(self) -> AsyncIterator[Machines]:
        if not self.options.machines:
            yield ClockMachines(self.world)
            return
        from core.lab.host import Host  # a world without machines does not pay for what makes them
        from core.lab.real_machines import RealMachines, adopt

        host = await Host.start(self.home.path, with_parent=self.options.with_parent)
        try:
            await adopt(self.world, host, was_paused=self.world.was_paused)
            yield RealMachines(self.world, host)
        finally:
            await host.close(leave_running=False)

    def _wire(self, machines: Machines, pump: Pump) -> list[socket.socket]:
        ports = self.identity.ports
        sockets = {name: listen(ports.get(name, 0)) for name in ("control", "vast")}
        self.identity.ports = {name: sock.getsockname()[1] for name, sock in sockets.items()}
        self.home.keep(self.identity)
        urls = {name: f"http://127.0.0.1:{port}" for name, port in self.identity.ports.items()}
        faults = Faults(self.world, machines)
        pacer = Pacer(VAST_MIN_INTERVAL_S if self.options.pacing else {})
        vast = VastFront(VastContext(self.world, machines, faults, urls["vast"]), self.identity.token, pacer)
        self._about = {
            "version": 1,
            "pid": os.getpid(),
            "token": self.identity.token,
            "control": urls["control"],
            "endpoints": {"vast": urls["vast"]},
            "isolation": machines.isolation,
            "isolation_reason": machines.host.isolation_reason if machines.host else "",
        }
        control = Control(self.world, faults, vast, self.identity.token, self._about, self.stop)
        self._apps = {self.identity.ports["control"]: control, self.identity.ports["vast"]: vast}
        self._faults, self._pump = faults, pump
        return list(sockets.values())

    def _server(self) -> _Server:
        config = uvicorn.Config(
            self._serve_one,
            interface="asgi3",
            http=_Protocol,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        )
        return _Server(config)

    def _announce(self) -> None:
        write_private(self.home.announcement, msgspec.json.encode(self._about))

    async def _serve_one(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = await read_request(scope, receive)
            result = await self._dispatch(request)
        except BadRequest as error:
            result = answer(400, {"success": False, "error": "invalid_args", "msg": str(error)})
        # before anybody hears of it: what was promised must survive kill -9
        self._pump.save()
        self._pump.wake()
        if result is None:
            await break_connection(scope, receive)
            return
        await send_answer(send, result, self.world.clock.now() + self._faults.skew_s())

    async def _dispatch(self, request: Request) -> Answer | None:
        return local_only(request) or await self._apps[request.port](request)

    async def _follow_parent(self, parent: int) -> None:
        """Stop in good order when the process that started this one is gone; asked of the system, so it works
        everywhere.
        """
        while os.getppid() == parent:  # noqa: ASYNC110 - nobody announces a parent's end to a loop
            await asyncio.sleep(PARENT_LOOK_S)
        self.stop()

    async def _watch_deaths(self, host: Host, pump: Pump) -> None:
        async for machine_id in host.deaths():
            contract = self.world.state.contracts.get(int(machine_id))
            if contract is not None and self.world.move(contract, "die"):
                pump.wake()
