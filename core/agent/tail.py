"""The tails of what a workload writes: its newest log and progress line. One rule: bounded, regular files only."""

from __future__ import annotations

import json
import os
import time

from core.agent import place

MAX_LINES = 500
MAX_LINE = 2000  # characters
MAX_BYTES = 64 * 1024
PROGRESS_BYTES = 4096
MAX_STEP = 2**52
MAX_ENTRIES = 2000  # directory entries looked at


def newest_log(workspace: str) -> str | None:
    """The most recently written `*.log` in `logs/`, else in the workspace itself."""
    for folder in (os.path.join(workspace, "logs"), workspace):
        best = None
        try:
            with os.scandir(folder) as entries:
                for count, entry in enumerate(entries):
                    if count >= MAX_ENTRIES:
                        break
                    if not entry.name.endswith(".log") or not entry.is_file():
                        continue
                    written = entry.stat().st_mtime
                    if best is None or written > best[0]:
                        best = (written, entry.path)
        except OSError:
            continue
        if best is not None:
            return best[1]
    return None


def last_lines(path: str, lines: int) -> list[str]:
    """At most `lines` last lines of a file, cut in length; what is not UTF-8 is replaced."""
    text = place.read_regular(path, MAX_BYTES).decode("utf-8", "replace")
    wanted = max(0, min(lines, MAX_LINES))
    return [line[:MAX_LINE] for line in text.splitlines()[-wanted:]] if wanted else []


def tail(workspace: str, lines: int) -> dict[str, object]:
    """The answer to a `tail` order: `path` None when there is no log."""
    path = newest_log(workspace)
    return {"path": path, "lines": [] if path is None else last_lines(path, lines)}


def progress(workspace: str) -> list[object] | None:
    """[age in seconds, step, loss, steps] of the newest progress line; None when there is none that makes sense."""
    path = os.environ.get("UNDERSTUDY_PROGRESS") or os.path.join(workspace, "logs", "progress.jsonl")
    lines = place.read_regular(path, PROGRESS_BYTES).splitlines()
    for line in lines[:-3:-1]:  # the last one may be half written
        try:
            value = json.loads(line.decode("utf-8"))
            step = max(-MAX_STEP, min(MAX_STEP, int(value["step"])))
            age_s = max(0.0, time.time() - os.stat(path).st_mtime)
        except (ValueError, KeyError, TypeError, OverflowError, OSError):
            continue
        return [round(age_s, 1), step, _number(value.get("loss")), _whole(value.get("steps"))]
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) == float("inf"):
        return None
    return float(value)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_STEP else None
