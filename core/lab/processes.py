"""Trees of processes, read from /proc.

One rule: stop before you kill, until a pass finds nobody new, so that nothing outruns it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S: int = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: int = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/PID/stat (proc_pid_stat(5)); times in clock ticks, `own_ticks` without reaped children."""

    pid: int
    command: str
    state: str
    parent: int
    own_ticks: int
    reaped_ticks: int
    started_ticks: int
    resident_bytes: int


def read_stat(pid: int) -> Stat | None:
    """None when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            line = file.read()
    except OSError:
        return None
    if not line:
        return None
    close = line.rindex(b")")
    fields = line[close + 2 :].split()
    return Stat(
        pid=pid,
        command=line[line.index(b"(") + 1 : close].decode(errors="replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        own_ticks=int(fields[11]) + int(fields[12]),
        reaped_ticks=int(fields[13]) + int(fields[14]),
        started_ticks=int(fields[19]),
        resident_bytes=int(fields[21]) * PAGE_BYTES,
    )


def all_stats() -> Iterator[Stat]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - a pass per second over hundreds of entries
        if name.isdigit() and (stat := read_stat(int(name))) is not None:
            yield stat


def children_by_parent() -> dict[int, list[Stat]]:
    family: dict[int, list[Stat]] = {}
    for stat in all_stats():
        family.setdefault(stat.parent, []).append(stat)
    return family


def below(root: int, family: dict[int, list[Stat]]) -> list[Stat]:
    """Everyone under `root`, parents before children, without `root`."""
    found: list[Stat] = []
    queue = [root]
    while queue:
        for stat in family.get(queue.pop(), []):
            found.append(stat)
            queue.append(stat.pid)
    return found


def descendants(root: int) -> list[int]:
    """Living pids under `root`; a zombie is not alive."""
    return [stat.pid for stat in below(root, children_by_parent()) if stat.state != "Z"]


def send(pid: int, sig: signal.Signals) -> bool:
    """False when the process is gone."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        return False
    return True


def signal_tree(root: int, sig: signal.Signals) -> set[int]:
    """Everyone below `root`, again and again until a pass finds nobody new. Returns who was signalled."""
    seen: set[int] = set()
    while new := [pid for pid in descendants(root) if pid not in seen]:
        for pid in new:
            send(pid, sig)
        seen.update(new)
    return seen


def kill_tree(root: int) -> None:
    """Everyone below `root`, without `root`. A fork bomb is stopped first, then killed."""
    for pid in signal_tree(root, signal.SIGSTOP):
        send(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.state != "Z"


def inner_pid(pid: int) -> int:
    """The pid as the process's own namespace knows it; the same one where there is no namespace. 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    except OSError:
        return 0
    return pid
