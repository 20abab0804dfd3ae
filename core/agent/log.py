"""The agent's own log: a small file beside it, for whoever looks at the machine. One rule: no secret, bounded size."""

from __future__ import annotations

import os
import time

MAX_BYTES = 256 * 1024


class Log:
    """Appends lines; over MAX_BYTES the file is moved to `.old`. A full disk loses lines, never the agent."""

    def __init__(self, path: str) -> None:
        self._path = path

    def say(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = "{} {}\n".format(stamp, text.replace("\n", " ")[:500])
        try:
            if os.path.exists(self._path) and os.path.getsize(self._path) > MAX_BYTES:
                os.replace(self._path, self._path + ".old")
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, line.encode("utf-8", "replace"))
            finally:
                os.close(handle)
        except OSError:
            return
