"""The GPUs as last seen. One rule: whoever asks gets an answer at once; the driver may take as long as it likes.

A thread of its own talks to the driver: NVML when it starts, else one long-lived nvidia-smi. In the lab (LAB_MACHINE is
set) only nvidia-smi is asked, since NVML would show the GPUs of the host that plays the machine.
"""

from __future__ import annotations

import os
import threading
import time

from core.agent import nvml, smi

PERIOD_S = 1.0
SILENT_S = 5.0  # a driver that says nothing for so long is called silent
APPS_KEPT_S = 1.5  # nvidia-smi prints nothing when nothing computes: a table this old is an empty one
FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 30.0


class Snapshot:
    """What was read at `at` (monotonic): rows, computing processes, and what is wrong."""

    def __init__(self, at: float, source: str, rows: list[list[object]], problem: str | None) -> None:
        self.at = at
        self.source = source
        self.rows = rows
        self.problem = problem
        self.apps: list[tuple[int, str, float | None, int | None]] = []


class Apps:
    """What computes, by a second nvidia-smi. One that cannot say so costs the list, never the figures."""

    def __init__(self) -> None:
        self._stream: smi.Stream | None = smi.Stream("compute-apps", smi.APP_FIELDS)
        self._table: list[list[str]] = []
        self._at = 0.0

    def now(self, at: float) -> list[list[str]]:
        """The latest rows; none when the last ones are older than a table may be."""
        try:
            fresh = self._stream.next_table(0.0) if self._stream is not None else None
        except smi.SmiError:
            self.close()
            fresh = None
        if fresh is not None:
            self._table, self._at = fresh, at
        return self._table if at - self._at < APPS_KEPT_S else []

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


class Gpus:
    """Starts the watching thread; `now` is the latest snapshot with its age taken into account."""

    def __init__(self) -> None:
        self.driver: str | None = None
        self.cuda: str | None = None
        self._latest: Snapshot | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gpus", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to end and gives it a moment; a hanging driver keeps its thread, not us."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    @property
    def known(self) -> bool:
        """Whether a first answer, good or bad, is there."""
        return self._latest is not None

    def now(self) -> Snapshot:
        latest = self._latest
        now = time.monotonic()
        if latest is None:
            return Snapshot(now, "none", [], "the GPU driver has not answered yet")
        age_s = now - latest.at
        if age_s <= SILENT_S or latest.source == "none":
            return latest
        rows = [[*row[:3], None, None, row[5], *[None] * (len(row) - 6)] for row in latest.rows]
        return Snapshot(latest.at, latest.source, rows, f"the GPU driver has been silent for {age_s:.0f} s")

    def _watch(self) -> None:
        if not os.environ.get("LAB_MACHINE"):
            try:
                library = nvml.Nvml()
            except nvml.NvmlError:
                pass  # nvidia-smi is asked instead, and says what is wrong
            else:
                self._watch_nvml(library)
                return
        self._watch_smi()

    def _watch_nvml(self, library: nvml.Nvml) -> None:
        self.driver, self.cuda = library.driver(), library.cuda()
        while not self._stopping.is_set():
            began = time.monotonic()
            pairs = [library.row(index) for index in range(library.count)]
            problems = [problem for _, problem in pairs if problem]
            snapshot = Snapshot(began, "nvml", [row for row, _ in pairs], problems[0] if problems else None)
            for index in range(library.count):
                snapshot.apps += [(pid, "", used, index) for pid, used in library.processes(index)]
            self._latest = snapshot
            self._stopping.wait(max(0.05, PERIOD_S - (time.monotonic() - began)))

    def _watch_smi(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._follow_smi()
            except smi.SmiError as error:
                known = [] if self._latest is None else self._latest.rows
                rows = [[*row[:3], None, None, row[5], *[None] * (len(row) - 6)] for row in known]
                self._latest = Snapshot(time.monotonic(), "nvidia-smi" if rows else "none", rows, str(error)[:200])
            backoff_s = (
                FIRST_BACKOFF_S if time.monotonic() - began > MAX_BACKOFF_S else min(MAX_BACKOFF_S, backoff_s * 2)
            )
            self._stopping.wait(backoff_s)

    def _follow_smi(self) -> None:
        """Reads tables until the process ends or falls silent; both raise SmiError."""
        gpus = smi.Stream("gpu", smi.GPU_FIELDS)
        apps = Apps()
        try:
            heard = time.monotonic()
            while not self._stopping.is_set():
                rows = gpus.next_table(PERIOD_S)
                now = time.monotonic()
                if rows is not None:
                    heard = now
                    self._publish(rows, apps.now(now), now)
                elif now - heard > SILENT_S:
                    raise smi.SmiError(f"nvidia-smi has been silent for {now - heard:.0f} s")
        finally:
            apps.close()
            gpus.close()

    def _publish(self, table: list[list[str]], apps: list[list[str]], now: float) -> None:
        pairs = [pair for pair in map(smi.gpu_row, table) if pair is not None]
        if not pairs:
            raise smi.SmiError(smi.sentence(table))
        if self.driver is None and len(table[0]) > 12:
            self.driver, self.cuda = table[0][12], smi.cuda()
        newest = {row[0]: (row, problem) for row, problem in pairs}  # two tables may have come at once
        problems = [problem for _, problem in newest.values() if problem]
        snapshot = Snapshot(now, "nvidia-smi", [row for row, _ in newest.values()], problems[0] if problems else None)
        index_of = {row[1]: int(str(row[0])) for row in snapshot.rows}
        for fields in apps:
            if len(fields) >= 4 and fields[0].isdigit():
                name = ",".join(fields[1:-2]).rpartition("/")[2][: smi.MAX_NAME]
                snapshot.apps.append((int(fields[0][:10]), name, smi.number(fields[-2]), index_of.get(fields[-1])))
        self._latest = snapshot
