"""The async face of the lab's machines: boots, stops, breaks and heals real process trees behind real ports.

One rule: a method returns when what it says is true on this host; what cannot be made true raises `OSError` with a
sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.lab import inside
from core.lab.doors import FAULTS, Doors
from core.lab.furnish import furnish, has_real_gpu, host_key, write_keys
from core.lab.links import KeeperLink, NoAnswer, end_process, open_or_spawn
from core.lab.processes import descendants, is_alive, read_stat
from core.lab.records import Record, Records
from core.lab.specs import PROTOCOL, Booted, GpuSpec, MachineSpec, impostor_of, own_address
from core.lab.throttle import SlowDisks

__all__ = ["Booted", "GpuSpec", "Host", "MachineSpec"]

STOP_GRACE_S = 2.0  # what SIGTERM gives before SIGKILL; providers give 10
SETTLE_LIMIT_S = 5.0
SETTLE_POLL_S = 0.01
GPU_FAULTS = (None, "mismatch", "lost", "none", "hang")


class Host:
    """Owner of the keeper and the gate of one lab home. Use from one event loop."""

    def __init__(self, home: Path, *, with_parent: bool) -> None:
        self._home = home
        self._with_parent = with_parent
        self._records = Records(home / "machines")
        self._keeper = KeeperLink(home)
        self._doors = Doors(home, self._records, with_parent=with_parent)
        self._booted: dict[str, Booted] = {}
        self._deaths: asyncio.Queue[str] = asyncio.Queue()
        self._locks: dict[str, asyncio.Lock] = {}
        self._rise = asyncio.Lock()
        self._watches: set[asyncio.Task[None]] = set()
        self._slow_disks = SlowDisks(home)
        self._hello: dict[str, Any] = {}

    @classmethod
    async def start(cls, home: Path, *, with_parent: bool) -> Host:
        """Start, or find alive and adopt, keeper and gate of `home` (= <understudy home>/lab). Raises OSError."""
        if not sys.platform.startswith("linux"):
            raise OSError("lab machines need Linux: run the lab without machines here, or on a Linux host")
        host = cls(home, with_parent=with_parent)
        await asyncio.to_thread(host._records.load)
        await asyncio.to_thread(host._slow_disks.clear)
        await host._raise_keeper()
        await host._doors.start()
        await host._settle()
        return host

    async def _settle(self) -> None:
        """What an earlier front left half done: machines without doors get them, the dead are told."""
        for record in self._records.all():
            if booted := self._booted.get(record.id):
                record = await self._doors.open(record)
                direct, proxy = (("127.0.0.1", port) for port in record.ports)
                self._booted[record.id] = replace(booted, direct=direct, proxy=proxy)
            elif record.state == "running":
                await self._died(record.id)
            elif record.state == "booting":  # it never lived: whoever wanted it will ask again
                self._records.put(replace(record, state="dead"))

    @property
    def isolation(self) -> str:
        """ "ns" or "plain", found out by doing it once at the keeper's start."""
        return str(self._hello["isolation"])

    @property
    def isolation_reason(self) -> str:
        """Why it is "plain"; empty for "ns"."""
        return str(self._hello["reason"])

    @property
    def gate_pid(self) -> int:
        """The gate's process; 0 while a dead one is being replaced."""
        return self._doors.gate_pid

    def booted(self) -> dict[str, Booted]:
        """The machines alive now, those adopted from an earlier front included."""
        return dict(self._booted)

    # -- the keeper ----------------------------------------------------------------------------------------------

    async def _raise_keeper(self) -> None:
        """Start or adopt it; nothing to do when the line is open."""
        async with self._rise:
            if self._keeper.is_open:
                return
            await open_or_spawn(
                self._keeper, "core.lab.keeper", self._home, "keeper.sock", with_parent=self._with_parent
            )
            self._hello = await self._keeper.request("hello")
            if self._hello["protocol"] != PROTOCOL:
                raise OSError("a lab of another version runs in this home: end it with `lab down` of that version")
            for alive in self._hello["machines"]:
                if record := self._records.get(str(alive["id"])):
                    port = int(alive["port"])
                    is_new = record.state == "booting"  # its front was killed before it could open the doors
                    record = record.healed(port=port) if is_new else replace(record, state="running", port=port)
                    self._records.put(record)
                    self._booted[record.id] = self._describe(record, alive)
            watch = asyncio.create_task(self._watch_keeper())
            self._watches.add(watch)
            watch.add_done_callback(self._watches.discard)

    async def _watch_keeper(self) -> None:
        """The keeper's news, and its own end: then every machine has died with it."""
        with contextlib.suppress(NoAnswer):
            await self._keeper.watch(self._died)
        self._keeper.close()
        self._hello["pid"] = 0
        for machine_id in list(self._booted):
            await self._died(machine_id)
        with contextlib.suppress(OSError):  # the next request tries again
            await self._raise_keeper()

    async def _ask_keeper(self, op: str, **fields: Any) -> dict[str, Any]:
        """As the link's request; a keeper that is gone is started again once."""
        try:
            return await self._keeper.request(op, **fields)
        except NoAnswer:
            self._keeper.close()
            await self._raise_keeper()
            return await self._keeper.request(op, **fields)

    async def _died(self, machine_id: str) -> None:
        """A machine's init has ended, and nobody had asked for it."""
        if self._booted.pop(machine_id, None) is None and machine_id not in self._records:
            return
        if record := self._records.get(machine_id):
            fault = record.fault or "reset"  # nothing listens behind the gate: say so, unless it is silent already
            record = self._records.put(replace(record, state="dead", fault=fault))
            with contextlib.suppress(OSError):
                await self._doors.apply(record)
            await asyncio.to_thread(self._slow_disks.release, machine_id)
            self._deaths.put_nowait(machine_id)

    # -- a machine's life ----------------------------------------------------------------------------------------

    def _lock(self, machine_id: str) -> asyncio.Lock:
        return self._locks.setdefault(machine_id, asyncio.Lock())

    def _describe(self, record: Record, alive: dict[str, Any]) -> Booted:
        root = self._records.root(record.id)
        return Booted(
            pid=int(alive["pid"]), init_pid=int(alive["init"]), isolation=str(alive["isolation"]),
            direct=("127.0.0.1", record.ports[0]), proxy=("127.0.0.1", record.ports[1]), root=root,
            workspace_root=root / "workspace", address=own_address(record.id),
        )  # fmt: skip

    def _furnish(self, spec: MachineSpec) -> str:
        """In a thread: the machine's files. Returns its host key."""
        root = self._records.root(spec.id)
        root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        furnish(
            root, isolation=self.isolation, hostname=spec.hostname, cores=spec.cores, ram_mib=spec.ram_mib,
            disk_gb=spec.disk_gb, passthrough=spec.passthrough, authorized_keys=spec.authorized_keys,
        )  # fmt: skip
        return host_key(root.parent)

    def _boot_request(self, spec: MachineSpec, key: str) -> dict[str, Any]:
        cards = [
            {"name": gpu.name, "vram_mib": gpu.vram_mib, "power_limit_w": gpu.power_limit_w,
             "data_center": gpu.data_center, "serial": f"{spec.id}/{index}"}
            for index, gpu in enumerate(spec.gpus)
        ]  # fmt: skip
        return {
            "id": spec.id, "hostname": spec.hostname, "root": str(self._records.root(spec.id)), "host_key": key,
            "passthrough": spec.passthrough, "env": {**spec.env, "LAB_ADDR": own_address(spec.id)},
            "onstart": spec.onstart, "cores": spec.cores, "ram_mib": spec.ram_mib, "cards": cards,
            "driver_version": spec.driver_version, "cuda_version": spec.cuda_version,
        }  # fmt: skip

    async def boot(self, spec: MachineSpec, *, ports: tuple[int, int] | None = None) -> Booted:
        """Boot; a second boot of the same id keeps its files, host key and (unless `ports` says otherwise) ports.
        Already alive: its keys are refreshed and the same `Booted` is returned. Any network fault is healed.
        Raises OSError."""
        if spec.passthrough and not has_real_gpu():
            raise OSError("this host has no NVIDIA GPU to pass through")
        async with self._lock(spec.id):
            if booted := self._booted.get(spec.id):
                await asyncio.to_thread(write_keys, self._records.root(spec.id), spec.authorized_keys)
                # an earlier front may have died between the machine's start and the opening of its ports
                record = await self._doors.open(self._alive_record(spec.id))
                direct, proxy = (("127.0.0.1", port) for port in record.ports)
                self._booted[spec.id] = replace(booted, direct=direct, proxy=proxy)
                return self._booted[spec.id]
            key = await asyncio.to_thread(self._furnish, spec)
            record = self._records.get(spec.id) or Record(spec.id)
            record = self._records.put(replace(record, state="booting", ports=ports or record.ports))
            try:
                alive = await self._ask_keeper("boot", **self._boot_request(spec, key))
            except OSError:
                self._records.put(replace(record, state="dead"))
                raise
            record = await self._doors.open(record.healed(port=int(alive["port"])))
            if not is_alive(int(alive["init"])):
                raise OSError("the machine died as soon as it had booted")
            self._booted[spec.id] = self._describe(record, alive)
            return self._booted[spec.id]

    async def set_keys(self, machine_id: str, authorized_keys: Sequence[str]) -> None:
        """Who may log in from now on; existing connections stay. Works on stopped machines too."""
        if machine_id not in self._records:
            raise OSError(f"the lab has no machine {machine_id}")
        await asyncio.to_thread(write_keys, self._records.root(machine_id), authorized_keys)

    async def stop(self, machine_id: str) -> None:
        """SIGTERM, a short grace, then the tree ends; files and ports stay reserved, connects are refused.
        Gone already: silent."""
        async with self._lock(machine_id):
            if booted := self._booted.get(machine_id):
                await self._ask_keeper("signal", id=machine_id, to="tree", signal="SIGTERM")
                await self._settled(lambda: set(descendants(booted.init_pid)) <= {booted.pid}, STOP_GRACE_S)
            await self._end(machine_id, quiet=True)
            if record := self._records.get(machine_id):
                await self._doors.apply(self._records.put(replace(record, state="stopped", fault="reset")))

    async def _end(self, machine_id: str, *, quiet: bool) -> None:
        if quiet:
            self._booted.pop(machine_id, None)
        await self._ask_keeper("end", id=machine_id, quiet=quiet)
        await asyncio.to_thread(self._slow_disks.release, machine_id)
        await self._ask_keeper("end", id=impostor_of(machine_id), quiet=True)

    @staticmethod
    async def _settled(is_so: Any, limit_s: float) -> bool:
        """Poll a look at /proc until it says yes; False at the limit."""
        deadline = asyncio.get_running_loop().time() + limit_s
        while not await asyncio.to_thread(is_so):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(SETTLE_POLL_S)
        return True

    async def destroy(self, machine_id: str) -> None:
        """The tree ends at once, ports close, files are removed. Unknown id: silent."""
        async with self._lock(machine_id):
            await self._end(machine_id, quiet=True)
            await self._doors.close_of(machine_id)
            self._records.forget(machine_id)
            for name in (machine_id, impostor_of(machine_id)):
                await asyncio.to_thread(self._remove_files, name)
        self._locks.pop(machine_id, None)

    async def kill(self, machine_id: str, *, power_off: bool) -> None:
        """The tree is killed; the network answers with resets, or (power_off) with silence. Reported by `deaths()`."""
        record = self._alive_record(machine_id)
        await self._doors.apply(self._records.put(replace(record, fault="drop" if power_off else "reset")))
        await self._end(machine_id, quiet=False)

    def _alive_record(self, machine_id: str) -> Record:
        record = self._records.get(machine_id)
        if record is None or machine_id not in self._booted:
            raise OSError(f"machine {machine_id} is not running")
        return record

    # -- faults --------------------------------------------------------------------------------------------------

    async def freeze(self, machine_id: str) -> None:
        """SIGSTOP to everything in the machine; connects succeed, nobody answers. Returns when all of it stands."""
        await self._stop_or_go(machine_id, "SIGSTOP", is_stopped=True)

    async def thaw(self, machine_id: str) -> None:
        """SIGCONT to everything in the machine."""
        await self._stop_or_go(machine_id, "SIGCONT", is_stopped=False)

    async def _stop_or_go(self, machine_id: str, name: str, *, is_stopped: bool) -> None:
        self._alive_record(machine_id)
        init = self._booted[machine_id].init_pid
        await self._ask_keeper("signal", id=machine_id, to="server", signal=name)

        def is_so() -> bool:
            states = [stat.state for pid in descendants(init) if (stat := read_stat(pid))]
            # a parent in vfork(2) stands in D until its stopped child goes on
            return all(state in "TD" if is_stopped else state != "T" for state in states if state not in "ZX")

        if not await self._settled(is_so, SETTLE_LIMIT_S):
            raise OSError(f"machine {machine_id} did not follow {name} within {SETTLE_LIMIT_S:.0f} s")

    async def network(
        self, machine_id: str, *, fault: str | None, latency_s: float = 0.0, bytes_per_s: int = 0
    ) -> None:
        """fault: "drop" | "reset" | "link-down" | None; latency one way; rate per connection and direction."""
        if fault not in FAULTS:
            raise OSError(f"the lab's network has no fault {fault!r}")
        record = self._records.get(machine_id)
        if record is None:
            raise OSError(f"the lab has no machine {machine_id}")
        changed = replace(record, fault=fault, latency_s=latency_s, bytes_per_s=bytes_per_s)
        await self._doors.apply(self._records.put(changed))

    async def wrong_host_key(self, machine_id: str, on: bool) -> None:
        """New connections meet another server with another host key; old ones are reset. User processes live on."""
        async with self._lock(machine_id):
            record = self._alive_record(machine_id)
            impostor = impostor_of(machine_id)
            port = 0
            if on:
                keys = await asyncio.to_thread(
                    (self._records.root(machine_id) / ".lab/authorized_keys").read_text, errors="replace"
                )
                spec = MachineSpec(impostor, impostor, (), "", "", 1, 1024, 1.0, tuple(keys.splitlines()), {}, "")
                key = await asyncio.to_thread(self._furnish, spec)
                port = int((await self._ask_keeper("boot", **self._boot_request(spec, key)))["port"])
            await self._doors.aim(self._records.put(replace(record, impostor_port=port)))
            if not on:
                await self._ask_keeper("end", id=impostor, quiet=True)
                await asyncio.to_thread(self._remove_files, impostor)

    def _remove_files(self, machine_id: str) -> None:
        directory = self._records.root(machine_id).parent
        if directory.is_dir():
            shutil.rmtree(directory)

    async def set_gpu(self, machine_id: str, *, fault: str | None) -> None:
        """fault: "mismatch" | "lost" | "none" | "hang" | None. Refused for a GPU that is passed through."""
        if fault not in GPU_FAULTS:
            raise OSError(f"the lab's GPUs have no fault {fault!r}")
        self._alive_record(machine_id)
        await self._ask_keeper("gpu", id=machine_id, fault=fault)

    async def flood(self, machine_id: str, *, needle: str | None) -> None:
        """Every exec channel, open or new, whose command contains `needle` gets endless bytes; None ends it."""
        self._alive_record(machine_id)
        switch = self._records.root(machine_id) / ".lab" / "flood"
        await asyncio.to_thread(switch.write_text, needle or "")
        await self._ask_keeper("signal", id=machine_id, to="server", signal="SIGUSR1")

    async def run(self, machine_id: str, argv: Sequence[str], *, timeout_s: float) -> tuple[int, bytes]:
        """Run inside the machine as its root: (exit status, stdout+stderr). Raises TimeoutError; the command is then
        killed."""
        self._alive_record(machine_id)
        booted = self._booted[machine_id]
        user_namespace = bool(self._hello["user_namespace"])
        return await inside.run(machine_id, booted, argv, user_namespace=user_namespace, timeout_s=timeout_s)

    async def disk_full(self, machine_id: str, on: bool) -> None:
        """Writes to the workspace fail with ENOSPC: new files at once, files held open before it are not reached.
        Refused (OSError) without namespaces."""
        self._alive_record(machine_id)
        if self._booted[machine_id].isolation != "ns":
            raise OSError("disk-full cannot be made real here: machines share this host's disk without namespaces")
        status, words = await self.run(
            machine_id, ["/bin/sh", "-c", inside.FILL_DISK if on else inside.FREE_DISK], timeout_s=SETTLE_LIMIT_S
        )
        if status:
            raise OSError(f"disk-full could not be made real: {words.decode(errors='replace').strip()}")

    async def slow_disk(self, machine_id: str, *, bytes_per_s: int) -> None:
        """What the machine reads from and writes to the disk is held to this rate; 0 ends it. Writes that stay in
        memory are as fast as ever. Refused (OSError) where control groups cannot do it."""
        self._alive_record(machine_id)
        if bytes_per_s:
            init = self._booted[machine_id].init_pid
            await asyncio.to_thread(self._slow_disks.hold, machine_id, init, bytes_per_s)
        else:
            await asyncio.to_thread(self._slow_disks.release, machine_id)

    def deaths(self) -> AsyncIterator[str]:
        """Ids of machines whose init ended without `stop` or `destroy`; deaths while no front ran come first."""

        async def one_by_one() -> AsyncIterator[str]:
            while True:
                yield await self._deaths.get()

        return one_by_one()

    async def close(self, *, leave_running: bool) -> None:
        """Let go. Unless `leave_running`, all machines, keeper and gate end first and the sockets are removed."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        if not leave_running:
            for record in self._records.all():
                if record.state == "running":
                    self._records.put(replace(record, state="stopped", fault="reset"))
            self._booted.clear()
            if pid := int(self._hello["pid"]):
                await end_process(pid)
            await asyncio.to_thread(self._slow_disks.release_all)
        self._keeper.close()
        await self._doors.close(leave_running=leave_running)
