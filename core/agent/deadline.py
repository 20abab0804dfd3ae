"""The dead man: at its deadline the machine ends itself by its provider's API, with or without an engine.

One rule: without a deadline on disk nothing ever happens; with one, it is retried until the provider has accepted.
The key is good for this one machine only; it is kept in a 0600 file and never printed.
"""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from core.agent import place
from core.agent.log import Log

FIRST_RETRY_S, MAX_RETRY_S = 5.0, 60.0
TIMEOUT_S = 30.0
GONE = (404, 410)
UNVERIFIED_AFTER = 3  # tries


class Deadline:
    """One order: at `wall` (or, in the same boot, at `boottime`) call `method url` with `key` as bearer."""

    def __init__(self, wall: float, boottime: float, boot_id: str, method: str, url: str, key: str) -> None:
        self.wall = wall
        self.boottime = boottime
        self.boot_id = boot_id
        self.method = method
        self.url = url
        self.key = key

    def __repr__(self) -> str:
        return f"Deadline({self.left_s():.0f} s left)"

    def left_s(self) -> float:
        """Seconds until it is due: by the clock that no one can set, unless the machine has been restarted."""
        if self.boot_id and self.boot_id == place.boot_id():
            return self.boottime - time.clock_gettime(time.CLOCK_BOOTTIME)
        return self.wall - time.time()


def order(message: dict[str, object]) -> Deadline | None:
    """The order in a message; None takes a deadline away. Raises ValueError for one that cannot be carried out."""
    if message.get("in_s") is None:
        return None
    in_s, method, url, key = (message.get(name) for name in ("in_s", "method", "url", "key"))
    if isinstance(in_s, bool) or not isinstance(in_s, (int, float)) or not 0 <= in_s < 10 * 365 * 86400:
        raise ValueError("in_s is seconds from now")
    if method not in ("DELETE", "PUT", "POST"):
        raise ValueError("method is DELETE, PUT or POST")
    if not isinstance(url, str) or not url.startswith(("https://", "http://127.0.0.1:")):
        raise ValueError("url is https")
    if not isinstance(key, str) or not key.isprintable() or len(key) > 4096:
        raise ValueError("key is a printable string")
    boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Deadline(time.time() + in_s, boottime + in_s, place.boot_id(), str(method), url, key)


def save(path: str, deadline: Deadline | None) -> None:
    """On disk before it is answered for. Raises OSError."""
    if deadline is None:
        if os.path.exists(path):
            os.unlink(path)
        return
    fresh = path + ".new"
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(vars(deadline), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def load(path: str) -> Deadline | None:
    """What is on disk; None when nothing is, or nothing that can be read."""
    text = place.read_text(path)
    try:
        return Deadline(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def carry_out(deadline: Deadline, log: Log, sleep: Callable[[float], object] = time.sleep) -> None:
    """Calls until the provider has accepted, or says that the machine is gone. Blocks; for a thread of its own."""
    wait_s = FIRST_RETRY_S
    tries = 0
    while True:
        tries += 1
        said = _call(deadline, verified=tries <= UNVERIFIED_AFTER)
        log.say(f"deadline: {said or 'accepted'}")
        if said is None:
            return
        sleep(wait_s)
        wait_s = min(MAX_RETRY_S, wait_s * 2)


def _call(deadline: Deadline, verified: bool) -> str | None:
    """None when it was accepted, else why not.

    Images without certificates cannot verify anyone: after a few tries it is called unverified, since a machine that
    goes on billing is worse than a stranger who learns a key that can only end this machine.
    """
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked when the order came
        deadline.url,
        data=b"{}",
        method=deadline.method,
        headers={"Authorization": "Bearer " + deadline.key, "Content-Type": "application/json"},
    )
    context = ssl.create_default_context() if verified else ssl._create_unverified_context()  # noqa: S323
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect()
    )
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            body = answer.read(65536)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(65536)
        return None if error.code in GONE and b"user key" not in body else f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "refused" if b'"success":false' in body.replace(b" ", b"") and b"no_such" not in body else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes to the provider and nowhere else."""

    def redirect_request(self, *_args: object) -> None:
        return None
