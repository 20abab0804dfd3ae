"""The meter: once a second, what every machine's GPUs would show, from what its processes really do.

One rule: a reading is derived from /proc alone; no process, no utilisation.

What counts as a GPU workload: a process with LAB_VRAM_MIB in its environment, or with a file `.lab/vram/PID` (MiB,
the pid as the machine sees it), or one that has libtorch mapped (its resident memory then stands for VRAM). Shells
and launchers that only inherit the variable are none, and a workload's children count as part of it.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from core.lab import procfs
from core.lab.card import Card, Shown
from core.lab.processes import TICKS_PER_S, Stat, below, children_by_parent, inner_pid

log = logging.getLogger(__name__)

LAUNCHERS = frozenset(
    {
        "sh", "bash", "dash", "zsh", "fish", "ash", "env", "nohup", "setsid", "nice", "sudo", "su", "timeout", "time",
        "stdbuf", "tmux", "tmux: server", "tmux: client", "screen", "script", "xargs", "make", "lab-sshd", "lab-init",
        "ssh", "sleep", "cat", "tee", "tail", "head", "grep", "sed", "awk",
    }
)  # fmt: skip
TORCH_LOOKS_S = (0.0, 2.0, 5.0, 15.0, 60.0)  # ages at which a process's maps are read; imports come after its start
READ_LIMIT_BYTES = 1 << 17  # of /proc/PID/environ and maps: a hostile process must not make the meter read gigabytes
VRAM_FILE_BYTES = 32

__all__ = ["Card", "Meter", "Metered"]


@dataclass
class Metered:
    """One machine under the meter; `init` is its pid 1 as this host knows it."""

    id: str
    init: int
    root: Path
    cards: list[Card]
    driver_version: str
    cuda_version: str
    ram_mib: int
    cores: int
    booted_at_s: float
    fault: str | None = None
    shown: list[Shown] = field(default_factory=list)
    known: dict[tuple[int, int], Known] = field(default_factory=dict)
    read_at_s: float = 0.0
    spent_ticks: int = 0


@dataclass
class Known:
    """What was learnt once about one process (pid and start time), and its counters at the last reading."""

    command: str
    inner: int
    environ: dict[str, str]
    command_line: str
    looks: int = 0
    has_torch: bool = False
    busy_s: float | None = None


@dataclass(frozen=True)
class Workload:
    """One row of `nvidia-smi`'s process list, per GPU that it uses."""

    pid: int
    name: str
    used_mib: int
    busy: float  # 0..1, the part of the time in which it had work to do
    gpus: tuple[int, ...]


def _read_head(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(limit) or b""
    except OSError:
        return b""


def _environ(pid: int) -> dict[str, str]:
    wanted = ("LAB_VRAM_MIB", "CUDA_VISIBLE_DEVICES", "LOCAL_RANK")
    pairs = (entry.partition(b"=") for entry in _read_head(f"/proc/{pid}/environ", READ_LIMIT_BYTES).split(b"\0"))
    return {os.fsdecode(k): os.fsdecode(v) for k, _, v in pairs if os.fsdecode(k) in wanted}


def _busy_s(stat: Stat) -> float:
    """Seconds in which the process ran or wanted to run: on a crowded host it is as busy as on an idle one."""
    fields = _read_head(f"/proc/{stat.pid}/schedstat", 128).split()  # run ns, wait ns, slices: of the main thread
    waited_s = int(fields[1]) / 1e9 if len(fields) == 3 else 0.0
    return (stat.own_ticks + stat.reaped_ticks) / TICKS_PER_S + waited_s


def is_number(text: str) -> bool:
    """At most nine plain digits: what a machine's programs write is anything at all."""
    return 0 < len(text) < 10 and text.isascii() and text.isdigit()


def _printable(text: str) -> str:
    """A process may call itself anything; the state file has one line per process."""
    return "".join(c if c.isprintable() else "?" for c in text)


def visible_gpus(environ: dict[str, str], count: int) -> tuple[int, ...]:
    """Indices of the GPUs a process uses: CUDA_VISIBLE_DEVICES, narrowed by a launcher's LOCAL_RANK; else the first."""
    text = environ.get("CUDA_VISIBLE_DEVICES")
    indices = list(range(count))
    if text is not None:
        indices = []
        for part in text.split(","):  # as CUDA does: everything after the first bad index is invisible
            if not is_number(part.strip()) or int(part) >= count:
                break
            indices.append(int(part))
    rank = environ.get("LOCAL_RANK", "")
    if is_number(rank):
        return tuple(indices[int(rank) : int(rank) + 1])
    return tuple(indices if text is not None else indices[:1])


class Meter:
    """All machines of one lab; `read` is one pass."""

    def __init__(self) -> None:
        self._machines: dict[str, Metered] = {}

    def add(self, metered: Metered) -> None:
        metered.shown = [Shown(card) for card in metered.cards]
        metered.read_at_s = metered.booted_at_s
        self._machines[metered.id] = metered
        self._write(metered, [])

    def remove(self, machine_id: str) -> None:
        self._machines.pop(machine_id, None)

    def set_fault(self, machine_id: str, fault: str | None) -> None:
        """Shown at once. Raises OSError for a machine without simulated GPUs."""
        metered = self._machines.get(machine_id)
        if metered is None or not metered.cards:
            raise OSError(f"machine {machine_id} has no simulated GPU: it is not running, or its GPU is real")
        metered.fault = fault
        self._write(metered, self._rows(metered, []))

    def read(self, now_s: float) -> None:
        """One pass over /proc for all machines. A machine whose files cannot be written is logged, the others go on."""
        if not self._machines:
            return
        family = children_by_parent()
        for metered in self._machines.values():
            elapsed_s = max(now_s - metered.read_at_s, 1e-3)
            metered.read_at_s = now_s
            tree = below(metered.init, family)
            workloads = self._workloads(metered, tree, elapsed_s, now_s)
            for index, shown in enumerate(metered.shown):
                mine = [w for w in workloads if index in w.gpus]
                shown.step(min(1.0, sum(w.busy for w in mine)), sum(w.used_mib for w in mine), elapsed_s)
            self._write(metered, self._rows(metered, workloads))
            self._write_proc(metered, tree, now_s)

    @staticmethod
    def _write_proc(metered: Metered, tree: list[Stat], now_s: float) -> None:
        """Memory and CPU of this machine alone, in place: the files are bound over its /proc/meminfo and /proc/stat."""
        used_mib = sum(stat.resident_bytes for stat in tree) >> 20
        spent = sum(stat.own_ticks + stat.reaped_ticks for stat in tree)
        metered.spent_ticks = max(metered.spent_ticks, spent)  # a counter: it never falls, whoever left
        up_s = now_s - metered.booted_at_s
        texts = {
            "meminfo": procfs.meminfo(metered.ram_mib, used_mib=used_mib),
            "stat": procfs.stat(metered.cores, busy_ticks=metered.spent_ticks, up_s=up_s),
        }
        for name, text in texts.items():
            try:
                _overwrite(metered.root / ".lab" / "proc", name, text)
            except OSError as error:
                log.warning("machine %s: /proc/%s could not be kept: %s", metered.id, name, error)

    def _workloads(self, metered: Metered, tree: list[Stat], elapsed_s: float, now_s: float) -> list[Workload]:
        files = _vram_files(metered.root)
        known = {}
        for stat in tree:
            key = (stat.pid, stat.started_ticks)
            about = metered.known.get(key)
            if about is None or about.command != stat.command:  # new, or another program since (exec)
                about = Known(stat.command, inner_pid(stat.pid), _environ(stat.pid), _command(stat))
            known[key] = about
        metered.known = known
        found: dict[int, tuple[Known, int]] = {}
        part_of: dict[int, int] = {}
        own_busy: dict[int, float] = {}
        for stat in tree:  # parents come before their children
            about = known[stat.pid, stat.started_ticks]
            above = part_of.get(stat.parent)
            used = None if stat.state == "Z" else self._used_mib(stat, about, files, now_s, is_part=above is not None)
            owner = stat.pid if used is not None else above
            if used is not None:
                found[stat.pid] = (about, used)
            if owner is not None:
                part_of[stat.pid] = owner
                own_busy[owner] = own_busy.get(owner, 0.0) + self._spent(stat, about, elapsed_s)
        count = len(metered.cards)
        return [
            Workload(about.inner, about.command_line, used, min(1.0, own_busy[pid]), visible_gpus(about.environ, count))
            for pid, (about, used) in found.items()
        ]

    @staticmethod
    def _spent(stat: Stat, about: Known, elapsed_s: float) -> float:
        """The part of the last interval in which this process was busy; 0..n for n threads."""
        now_busy_s = _busy_s(stat)
        before, about.busy_s = about.busy_s, now_busy_s
        return max(0.0, now_busy_s - (before if before is not None else max(0.0, now_busy_s - elapsed_s))) / elapsed_s

    @staticmethod
    def _used_mib(stat: Stat, about: Known, files: dict[int, int], now_s: float, *, is_part: bool) -> int | None:
        """VRAM of a workload, None for any other process."""
        if about.inner in files:
            return files[about.inner]
        if is_part or stat.command in LAUNCHERS:
            return None
        asked = about.environ.get("LAB_VRAM_MIB", "")
        if is_number(asked):
            return int(asked)
        age_s = now_s - stat.started_ticks / TICKS_PER_S  # both count from boot on Linux
        if not about.has_torch and about.looks < len(TORCH_LOOKS_S) and age_s >= TORCH_LOOKS_S[about.looks]:
            about.looks += 1
            about.has_torch = b"libtorch" in _read_head(f"/proc/{stat.pid}/maps", READ_LIMIT_BYTES * 8)
        return stat.resident_bytes >> 20 if about.has_torch else None

    @staticmethod
    def _rows(metered: Metered, workloads: list[Workload]) -> list[str]:
        return [
            "app " + "\t".join((f"index={index}", f"gpu_uuid={metered.cards[index].uuid}", f"pid={w.pid}",
                                f"process_name={w.name}", f"used_gpu_memory={w.used_mib}"))
            for w in sorted(workloads, key=lambda w: w.pid) for index in w.gpus
        ]  # fmt: skip

    @staticmethod
    def _write(metered: Metered, apps: list[str]) -> None:
        head = [f"driver_version {metered.driver_version}", f"cuda_version {metered.cuda_version}"]
        if metered.fault:
            head.append(f"fault {metered.fault}")
        lines = head + [shown.line(index) for index, shown in enumerate(metered.shown)] + apps
        try:
            _replace(metered.root / ".lab", "gpu", "\n".join(lines) + "\n")
        except OSError as error:
            log.warning("machine %s: its GPU figures could not be written: %s", metered.id, error)


def _command(stat: Stat) -> str:
    """What nvidia-smi shows: the program, without arguments."""
    words = _read_head(f"/proc/{stat.pid}/cmdline", 4096).split(b"\0")
    return _printable(os.fsdecode(words[0])) or stat.command


def _replace(directory: Path, name: str, text: str) -> None:
    """Atomically, and without following a link that the machine's user may have put there."""
    where = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        new = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644, dir_fd=where)
        with os.fdopen(new, "wb") as file:
            os.fchmod(new, 0o644)
            file.write(text.encode())
        os.replace(name + ".new", name, src_dir_fd=where, dst_dir_fd=where)
    finally:
        os.close(where)


def _overwrite(directory: Path, name: str, text: str) -> None:
    """One write of the same length into the same inode, without following links."""
    where = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        file = os.open(name, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=where)
        try:
            os.pwrite(file, text.encode(), 0)
        finally:
            os.close(file)
    finally:
        os.close(where)


def _vram_files(root: Path) -> dict[int, int]:
    """pid -> MiB, as the machine's own programs declare it. What is not a small number in a plain file is ignored."""
    found: dict[int, int] = {}
    try:
        where = os.open(root / ".lab" / "vram", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return found
    try:
        for name in os.listdir(where):  # noqa: PTH208 - by descriptor, so that no link is followed
            text = _small_file(where, name) if is_number(name) else ""
            if is_number(text):
                found[int(name)] = int(text)
    finally:
        os.close(where)
    return found


def _small_file(where: int, name: str) -> str:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=where)
    except OSError:
        return ""
    with os.fdopen(fd, "rb") as file:
        return file.read(VRAM_FILE_BYTES).decode(errors="replace").strip()
