"""One end of a copy: the same code runs at home and, sent along as text, on the machine (Python 3.8, standard library).

One rule: what the other end says never leads out of the destination, and a file appears under its name only whole.

The sender says what there is, the receiver which files it wants from which byte, the sender sends those, the receiver
says what came. A file comes in chunks: four bytes of length, then so many bytes; 0 ends it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
import sys
from typing import Any, BinaryIO, Callable, List

CHUNK_BYTES = 256 * 1024
LINE_BYTES_MAX = 64 * 1024  # of an entry: a path and a link's target
LISTING_BYTES_MAX = 128 * 1024 * 1024  # of all entries together, and of the list of wanted files
ENTRIES_MAX = 1_000_000
END, RESTART, BROKEN = 0, 0xFFFFFFFE, 0xFFFFFFFF
PART = ".understudy-part"
NAMED_MAX = 20  # so many failed names are said

# [kind, path, size, mtime_s, mode, target]; kind f (file), d (directory), l (symbolic link)
Entry = List[Any]
Progress = Callable[[int, int, int, int], None]  # files done, files, bytes done, bytes


class CopyError(Exception):
    """A sentence for the operator."""


# -- the wire --------------------------------------------------------------------------------------------------------


def say(out: BinaryIO, value: Any) -> None:
    out.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")


def hear(inp: BinaryIO, limit: int = LINE_BYTES_MAX) -> Any:
    line = inp.readline(limit + 1)
    if not line.endswith(b"\n"):
        raise EOFError("The connection was lost." if len(line) <= limit else "The other end talks too much.")
    try:
        return json.loads(line)
    except ValueError:
        raise CopyError("The other end is not understood.") from None


def exactly(inp: BinaryIO, count: int) -> bytes:
    data = inp.read(count)
    if data is None or len(data) != count:
        raise EOFError("The connection was lost.")
    return data


# -- sending ---------------------------------------------------------------------------------------------------------


def listing(source: str) -> tuple[bool, list[Entry], int]:
    """(is a directory, its entries, how many were left out because they are neither file, directory nor link)."""
    entries: list[Entry] = []
    try:
        top = os.stat(source)
        if stat.S_ISREG(top.st_mode):
            return False, [["f", os.path.basename(source), top.st_size, int(top.st_mtime), top.st_mode & 0o777, ""]], 0
        if not stat.S_ISDIR(top.st_mode):
            raise CopyError(f"{source} is neither a file nor a directory.")
        return True, entries, _walk(source, "", entries)
    except OSError as e:
        raise CopyError(f"{source} cannot be read: {e.strerror}.") from None


def _walk(top: str, below: str, entries: list[Entry]) -> int:
    odd = 0
    with os.scandir(os.path.join(top, below)) as found:
        inside = sorted(found, key=lambda e: e.name)
    for one in inside:
        path = below + one.name
        try:
            about = one.stat(follow_symlinks=False)
            if stat.S_ISLNK(about.st_mode):
                entries.append(["l", path, 0, 0, 0, os.readlink(one.path)])
            elif stat.S_ISDIR(about.st_mode):
                entries.append(["d", path, 0, 0, about.st_mode & 0o777, ""])
                odd += _walk(top, path + "/", entries)
            elif stat.S_ISREG(about.st_mode) and not one.name.endswith(PART):
                entries.append(["f", path, about.st_size, int(about.st_mtime), about.st_mode & 0o777, ""])
            else:
                odd += 1
        except FileNotFoundError:
            continue  # it went away while we looked
        except PermissionError:
            odd += 1
    return odd


def send(source: str, inp: BinaryIO, out: BinaryIO, progress: Progress) -> dict[str, Any]:
    """Sends a file, or a directory with all that is in it; returns what the receiver says came."""
    contents = source.endswith("/")
    source = source.rstrip("/") or "/"
    try:
        directory, entries, odd = listing(source)
    except CopyError as e:
        say(out, {"error": str(e)})
        out.flush()
        raise
    name = os.path.basename(os.path.realpath(source) if os.path.basename(source) in ("", ".", "..") else source)
    say(out, {"directory": directory, "name": name, "contents": contents, "entries": len(entries), "odd": odd})
    for entry in entries:
        say(out, entry)
    out.flush()
    reply = hear(inp, LISTING_BYTES_MAX)
    if "error" in reply:
        raise CopyError(str(reply["error"])[:400])
    base = source if directory else os.path.dirname(source) or "."
    wanted = [(entries[int(i)], int(offset), str(digest)) for i, offset, digest in reply["want"]]
    total, done = sum(e[2] - offset for e, offset, _ in wanted), 0
    with contextlib.suppress(BrokenPipeError):  # the receiver has ended: its last line says why, or is not there
        for count, (entry, offset, digest) in enumerate(wanted):
            progress(count, len(wanted), done, total)
            done += _send_file(os.path.join(base, entry[1]), entry, offset, digest, out)
        out.flush()
        progress(len(wanted), len(wanted), done, total)
    result = dict(hear(inp))
    if "error" in result:
        raise CopyError(str(result["error"])[:400])
    return result


def _send_file(path: str, entry: Entry, offset: int, digest: str, out: BinaryIO) -> int:
    """So many bytes as were announced; a file that has changed since is broken off and says so."""
    sent = 0
    try:
        with open(path, "rb") as file:
            if offset and digest_of(file, offset) != digest:
                out.write(RESTART.to_bytes(4, "big"))
                offset = 0
            file.seek(offset)
            left = entry[2] - offset
            while left:
                data = file.read(min(CHUNK_BYTES, left))
                if not data:
                    break
                out.write(len(data).to_bytes(4, "big"))
                out.write(data)
                left -= len(data)
                sent += len(data)
            whole = left == 0 and int(os.fstat(file.fileno()).st_mtime) == entry[3]
    except (PermissionError, FileNotFoundError):
        whole = False
    out.write((END if whole else BROKEN).to_bytes(4, "big"))
    return sent


def digest_of(file: BinaryIO, count: int) -> str:
    """Of the first `count` bytes; of fewer when there are fewer."""
    file.seek(0)
    digest = hashlib.blake2b(digest_size=16)
    while count:
        data = file.read(min(CHUNK_BYTES, count))
        if not data:
            break
        digest.update(data)
        count -= len(data)
    return digest.hexdigest()


# -- receiving -------------------------------------------------------------------------------------------------------


class Receiver:
    """Puts entries below `base`. Directories that are links here are not entered."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._known: set[str] = set()

    def want(self, entry: Entry) -> tuple[int, str] | None:
        """From which byte, and what lies before it; None when the same file is already here."""
        path = os.path.join(self.base, entry[1])
        try:
            here = os.lstat(path)
            if stat.S_ISREG(here.st_mode) and here.st_size == entry[2] and int(here.st_mtime) == entry[3]:
                return None
        except OSError:
            pass  # nothing of that name is here
        part = self.part(entry)
        try:
            with open(os.open(part, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                return (size, digest_of(file, size)) if size <= entry[2] else (0, "")
        except OSError:
            return 0, ""

    def part(self, entry: Entry) -> str:
        """Where a file grows: its name says of which version, so that two are never mixed."""
        folder, name = os.path.split(os.path.join(self.base, entry[1]))
        version = hashlib.blake2b(f"{name}:{entry[2]}:{entry[3]}".encode("utf-8", "surrogatepass"), digest_size=8)
        return os.path.join(folder, f".{version.hexdigest()}{PART}")

    def directory(self, path: str) -> None:
        """Makes it with all above it, inside the base. Raises CopyError where something else stands."""
        if not path or path in self._known:
            return
        self.directory(os.path.dirname(path))
        full = os.path.join(self.base, path)
        try:
            os.mkdir(full, 0o755)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(full).st_mode):
                raise CopyError(f"{full} is no directory here; nothing is put behind it.") from None
        self._known.add(path)

    def file(self, entry: Entry, offset: int, inp: BinaryIO, grown: Callable[[int], None]) -> bool:
        """Takes one file off the wire; False when the sender broke it off."""
        self.directory(os.path.dirname(entry[1]))
        part = self.part(entry)
        # O_NOFOLLOW: a link that someone put there would lead the bytes elsewhere
        if os.path.isdir(os.path.join(self.base, entry[1])):
            raise CopyError(f"{os.path.join(self.base, entry[1])} is a directory here, and a file there.")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb", closefd=True) as file:
            file.truncate(offset)
            file.seek(offset)
            size = offset
            while True:
                count = int.from_bytes(exactly(inp, 4), "big")
                if count == RESTART:
                    size = 0
                    file.seek(0)
                    file.truncate()
                elif count in (END, BROKEN):
                    break
                else:
                    size += count
                    if count > CHUNK_BYTES or size > entry[2]:
                        raise CopyError("The other end sends more than it announced.")
                    file.write(exactly(inp, count))
                    grown(count)
            if count == BROKEN or size != entry[2]:
                return False
            file.flush()
            os.fchmod(handle, entry[4] & 0o777)
        os.utime(part, (entry[3], entry[3]))
        os.replace(part, os.path.join(self.base, entry[1]))
        return True

    def link(self, entry: Entry) -> bool:
        """Only one that stays inside: relative, and `..` only in front and no further up than the base."""
        words = entry[5].split("/")
        up = 0
        while up < len(words) and words[up] == "..":
            up += 1
        if entry[5].startswith("/") or up > entry[1].count("/") or ".." in words[up:] or "\0" in entry[5]:
            return False
        self.directory(os.path.dirname(entry[1]))
        path = os.path.join(self.base, entry[1])
        if os.path.islink(path):
            os.unlink(path)
        elif os.path.lexists(path):
            return False
        os.symlink(entry[5], path)
        return True


def entry_of(value: Any) -> Entry:
    """An entry that cannot lead out of the destination. Raises CopyError."""
    if (
        not isinstance(value, list)
        or [type(v) for v in value] != [str, str, int, int, int, str]
        or value[0] not in ("f", "d", "l")
        or value[2] < 0
    ):
        raise CopyError("The other end is not understood.")
    words = value[1].split("/")
    if any(w in ("", ".", "..") or "\0" in w or len(w.encode("utf-8", "surrogatepass")) > 255 for w in words):
        raise CopyError("The other end names a file outside of what was asked for; nothing of it is taken.")
    return list(value)


def place(destination: str, header: dict[str, Any]) -> str:
    """As `cp` decides: into what is a directory or ends with `/`, else under that name."""
    name = str(header["name"])
    if header["contents"]:
        return destination.rstrip("/") or "/"
    if destination.endswith("/") or os.path.isdir(destination):
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise CopyError("The other end gives no usable name.")
        return os.path.join(destination, name)
    return destination


def receive(destination: str, inp: BinaryIO, out: BinaryIO, progress: Progress) -> dict[str, Any]:
    """Receives what `send` sends; returns what came and where it is."""
    header = hear(inp)
    if "error" in header:
        raise CopyError(str(header["error"])[:400])
    entries = _entries(inp, int(header["entries"]))
    try:
        final = place(destination, header)
        base = final if header["directory"] else os.path.dirname(final) or "."
        if not header["directory"]:
            entries = [["f", os.path.basename(final), *e[2:]] for e in entries[:1] if e[0] == "f"]
        os.makedirs(base, exist_ok=True)
        receiver = Receiver(base)
        wanted = [(i, w) for i, e in enumerate(entries) if e[0] == "f" and (w := receiver.want(e)) is not None]
        total = sum(entries[i][2] - offset for i, (offset, _) in wanted)
        _room(base, total)
    except (CopyError, OSError) as e:
        raise _refused(e, destination, out) from None
    say(out, {"want": [[i, offset, digest] for i, (offset, digest) in wanted]})
    out.flush()
    try:
        result = _take(receiver, entries, [(i, offset) for i, (offset, _) in wanted], inp, progress)
    except (CopyError, OSError) as e:
        raise _refused(e, final, out) from None
    files = sum(e[0] == "f" for e in entries)
    result.update({"path": final, "files": files, "same": files - len(wanted)})
    result["left_out"] = int(header["odd"]) + result.pop("links_refused")
    say(out, result)
    out.flush()
    return result


def _refused(error: CopyError | OSError, path: str, out: BinaryIO) -> CopyError:
    """Tells the sender, when it still listens; whoever looks on this side reads the same sentence."""
    sentence = str(error) if isinstance(error, CopyError) else f"{path} cannot be written: {error.strerror}."
    with contextlib.suppress(BrokenPipeError):
        say(out, {"error": sentence})
        out.flush()
    return CopyError(sentence)


def _entries(inp: BinaryIO, count: int) -> list[Entry]:
    """The listing, within limits. Raises CopyError."""
    if not 0 <= count <= ENTRIES_MAX:
        raise CopyError("The other end has too many files.")
    found, left = [], LISTING_BYTES_MAX
    for _ in range(count):
        line = inp.readline(LINE_BYTES_MAX + 1)
        left -= len(line)
        if left < 0:
            raise CopyError("The other end has too many files.")
        found.append(entry_of(hear(io.BytesIO(line))))
    return found


def _take(
    receiver: Receiver, entries: list[Entry], wanted: list[tuple[int, int]], inp: BinaryIO, progress: Progress
) -> dict[str, Any]:
    total, done, failed = sum(entries[i][2] - offset for i, offset in wanted), 0, []
    for entry in entries:
        if entry[0] == "d":
            receiver.directory(entry[1])
    for count, (index, offset) in enumerate(wanted):

        def grown(more: int, count: int = count) -> None:
            nonlocal done
            done += more
            progress(count, len(wanted), done, total)

        if not receiver.file(entries[index], offset, inp, grown):
            failed.append(entries[index][1])
    refused = sum(not receiver.link(e) for e in entries if e[0] == "l")
    progress(len(wanted), len(wanted), done, total)
    return {"bytes": done, "failed": failed[:NAMED_MAX], "failed_count": len(failed), "links_refused": refused}


def _room(base: str, needed: int) -> None:
    free = (about := os.statvfs(base)).f_bavail * about.f_frsize
    if needed > free:
        raise CopyError(f"It needs {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free at {base}.")


def main() -> None:
    """The machine's end: the order is one line on stdin, then the copy over stdin and stdout."""
    inp, out = sys.stdin.buffer, sys.stdout.buffer
    order = hear(inp)
    asked = os.path.expanduser(order["path"])
    path = os.path.normpath(os.path.join(order["below"], asked)) + ("/" if asked.endswith("/") else "")

    def quiet(files: int, of_files: int, count: int, of_bytes: int) -> None:
        """Nobody looks here."""

    try:
        if order["verb"] == "push":
            receive(path, inp, out, quiet)
        else:
            send(path, inp, out, quiet)
    except (CopyError, EOFError):
        sys.exit(1)  # the other end was told, or has gone


if __name__ == "__main__":
    main()
