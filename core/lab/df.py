"""The lab's df, compiled into every machine: the disk that the offer sold. One rule: used is counted for real, size is
simulated, and free is the difference.

Runs as `python -I -S df.pyc PREFIX SIZE_KIB ARGUMENTS...`; knows the options that scripts use.
"""

from __future__ import annotations

import os
import sys

OWN = ("workspace", "root", "home", "tmp", "var", "srv", "mnt", "opt/workspace")
UNITS = {"K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}  # in KiB
COLUMNS = ("source", "size", "used", "avail", "pcent", "target")
TITLES = {
    "source": "Filesystem",
    "fstype": "Type",
    "used": "Used",
    "avail": "Avail",
    "pcent": "Use%",
    "target": "Mounted on",
}
REAL = ("/usr/bin/df", "/bin/df")


def mount_points() -> set[str]:
    """Directories that are windows onto the host, whose contents are not the machine's."""
    with open("/proc/self/mountinfo") as file:
        return {line.split(" ")[4] for line in file}


def used_kib(prefix: str) -> int:
    """What the machine's own directories hold on disk."""
    foreign = mount_points()
    total, queue = 0, [f"{prefix}/{name}" for name in OWN]
    while queue:
        try:
            entries = list(os.scandir(queue.pop()))
        except OSError:  # gone, or no directory
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in foreign:
                    queue.append(entry.path)
            else:
                try:
                    total += entry.stat(follow_symlinks=False).st_blocks
                except OSError:
                    continue
    return total // 2


class Options:
    """Which columns, in which unit."""

    def __init__(self, arguments: list[str]) -> None:
        self.columns = list(COLUMNS)
        self.unit_kib = 1.0
        self.human = self.has_total = False
        self.operands: list[str] = []
        self.title = "1K-blocks"
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            if word.startswith("--"):
                self._long(word)
            elif word.startswith("-") and len(word) > 1:
                self._short(word[1:], rest)
            else:
                self.operands.append(word)

    def _long(self, word: str) -> None:
        name, _, value = word.partition("=")
        if name == "--output":
            self.columns = value.split(",") if value else list(COLUMNS)
        elif name == "--block-size":
            self._block(value)
        elif name in ("--human-readable", "--si"):
            self.human = True
        elif name == "--print-type":
            self.columns.insert(1, "fstype")

    def _short(self, letters: str, rest: list[str]) -> None:
        for index, letter in enumerate(letters):
            if letter in "hH":
                self.human, self.title = True, "Size"
            elif letter == "k":
                self._block("1K")
            elif letter == "m":
                self._block("1M")
            elif letter == "T":
                self.columns.insert(1, "fstype")
            elif letter == "P":
                self.title = "1024-blocks" if self.unit_kib == 1 else self.title
            elif letter in "Bt":
                value = letters[index + 1 :] or (rest.pop(0) if rest else "")
                if letter == "B":
                    self._block(value)
                return

    def _block(self, text: str) -> None:
        number = text.rstrip("KMGTiB")
        unit = text[len(number) :][:1]
        count = float(number or 1)
        self.unit_kib = count * UNITS[unit] if unit in UNITS else count / 1024
        self.title = f"{text}-blocks"


def shown(kib: float, options: Options) -> str:
    if not options.human:
        return str(int(-(-kib // options.unit_kib)) if options.unit_kib >= 1 else int(kib / options.unit_kib))
    for unit in "KMG":
        if kib < 1024:
            return f"{kib:.1f}{unit}" if kib < 10 else f"{kib:.0f}{unit}"
        kib /= 1024
    return f"{kib:.1f}T" if kib < 10 else f"{kib:.0f}T"


def rows(prefix: str, size_kib: int, options: Options) -> list[list[str]]:
    """Header and one line: everything of the machine lies on one disk."""
    # the fault disk-full lays a full file system over the workspace
    used = size_kib if f"{prefix}/workspace" in mount_points() else used_kib(prefix)
    free = max(0, size_kib - used)
    values = {
        "source": "overlay", "fstype": "overlay", "size": shown(size_kib, options), "used": shown(used, options),
        "avail": shown(free, options), "pcent": f"{min(100, -(-100 * used // size_kib))}%", "target": prefix or "/",
    }  # fmt: skip
    head = [options.title if c == "size" else TITLES.get(c, c) for c in options.columns]
    return [head, [values.get(column, "-") for column in options.columns]]


def main(arguments: list[str]) -> int:
    """df's exit status; inodes and paths outside the machine's disk are the real df's business."""
    prefix, size_kib, words = arguments[0], int(arguments[1]), arguments[2:]
    options = Options(words)
    foreign = any(operand.startswith(("/dev", "/proc", "/sys", "/run")) for operand in options.operands)
    if foreign or "-i" in words or "--inodes" in words or "--help" in words or "--version" in words:
        real = next(path for path in REAL if os.access(path, os.X_OK))
        os.execv(real, ["df", *words])  # noqa: S606
    missing = [operand for operand in options.operands if not os.access(operand, os.F_OK)]
    for operand in missing:
        sys.stderr.write(f"df: {operand}: No such file or directory\n")
    if len(missing) < max(1, len(options.operands)):
        lines = rows(prefix, size_kib, options)
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        for line in lines:
            cells = [
                cell.ljust(width) if name in ("source", "fstype", "target") else cell.rjust(width)
                for cell, width, name in zip(line, widths, options.columns, strict=True)
            ]
            sys.stdout.write(" ".join(cells).rstrip() + "\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
