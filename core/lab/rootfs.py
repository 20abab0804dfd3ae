"""What a lab machine sees as `/`: its own directory, and a read-only choice of the host's system.

One rule: what is not listed here is not shown.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from core.lab import linuxns as ns

SHOWN = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt", "nix", "sys")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
OWN_DIRECTORIES = (
    "root", "home/ops", "tmp", "var/log", "var/tmp", "var/lib", "var/cache", "run",
    "mnt", "srv", "proc", "dev", "workspace",
)  # fmt: skip
PROTECTED_PROC = ("sys", "sysrq-trigger", "irq", "bus")  # as container runtimes do: the kernel's own switches


@dataclass(frozen=True)
class Layout:
    """`root` is the machine's directory on the host; `keep` are host directories that stay visible, read-only."""

    root: str
    keep: tuple[str, ...]
    passthrough: bool


def python_directories() -> tuple[str, ...]:
    """Where the interpreter that runs the machine's server lives; it imports lazily, so these must stay visible.
    Raises OSError with a sentence when one cannot be read."""
    own = str(Path(__file__).resolve().parents[2])
    libraries = [path for path in sys.path if path not in ("", own) and Path(path).is_dir()]
    found = {sys.prefix, sys.base_prefix, *libraries}
    found |= {str(Path(path).resolve()) for path in found}
    found = {path for path in found if not any(Path(other) in Path(path).parents for other in found)}
    for path in sorted(found):
        if not os.access(path, os.R_OK | os.X_OK):
            raise OSError(f"Python at {path} is not readable for this user")
    return tuple(sorted(found))


def own_directory(path: Path) -> None:
    """Make `path` a real directory: a link that a machine's user left there must not lead us out of its root."""
    if path.is_symlink():
        path.unlink()
    path.mkdir(parents=True, exist_ok=True)


def _bind(source: str, target: str, *, recursive: bool = True) -> None:
    ns.mount(source, target, None, ns.MS_BIND | (ns.MS_REC if recursive else 0))


def _show_system(root: str) -> None:
    for name in SHOWN:
        source, target = Path("/", name), Path(root, name)
        if source.is_symlink():
            if not os.path.lexists(target):
                target.symlink_to(source.readlink())
        elif source.is_dir():
            own_directory(target)
            _bind(str(source), str(target))
            ns.make_read_only(str(target))


def _show_python(layout: Layout) -> None:
    for path in layout.keep:
        if path.split("/")[1] in SHOWN:
            continue
        target = layout.root + path
        Path(target).mkdir(parents=True, exist_ok=True)
        _bind(path, target)  # always: the mount point of an earlier boot is an empty directory that would hide it
        ns.make_read_only(target)


def _own_devices(layout: Layout) -> None:
    dev = layout.root + "/dev"
    ns.mount("tmpfs", dev, "tmpfs", ns.MS_NOSUID | ns.MS_NOEXEC, "mode=755,size=64k")
    names = list(DEVICES)
    if layout.passthrough:
        names += sorted(p.name for p in Path("/dev").glob("nvidia*"))
    for name in names:
        source, target = Path("/dev", name), Path(dev, name)
        if source.is_dir():
            target.mkdir()
        elif source.exists():
            target.touch()
        else:
            continue
        _bind(str(source), str(target))
    for name, place in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        Path(dev, name).symlink_to(place)
    Path(dev, "shm").mkdir()
    ns.mount("tmpfs", dev + "/shm", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=1777")
    Path(dev, "pts").mkdir()
    ns.mount("devpts", dev + "/pts", "devpts", ns.MS_NOSUID | ns.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    Path(dev, "ptmx").symlink_to("pts/ptmx")


def _own_run(root: str) -> None:
    """A fresh /run. A resolv.conf that is a link into the host's /run is copied, or names would not resolve."""
    resolv = Path("/etc/resolv.conf")
    place = Path(os.path.realpath(resolv))
    text = place.read_bytes() if place.is_relative_to("/run") and place.is_file() else None
    ns.mount("tmpfs", root + "/run", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=755")
    if text is not None:
        copy = Path(root + str(place))
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(text)


def _own_etc(root: str) -> None:
    own = Path(root, ".lab/etc")
    for file in sorted(own.iterdir()) if own.is_dir() else []:
        target = Path(root, "etc", file.name)
        if target.is_file() and not target.is_symlink():
            _bind(str(file), str(target), recursive=False)


def _own_proc(root: str) -> None:
    """A proc of our own pid namespace, mounted before the pivot: an unprivileged one needs the host's still in view."""
    proc = root + "/proc"
    ns.mount("proc", proc, "proc", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)
    for name in PROTECTED_PROC:
        point = f"{proc}/{name}"
        if Path(point).exists():
            _bind(point, point)
            ns.make_read_only(point)
    shown = Path(root, ".lab/proc")
    for file in sorted(shown.iterdir()) if shown.is_dir() else []:
        _bind(str(file), f"{proc}/{file.name}", recursive=False)


def build(layout: Layout) -> None:
    """Turn `layout.root` into `/` of the calling process's (already own) mount and pid namespaces."""
    root = layout.root
    ns.mount(None, "/", None, ns.MS_REC | ns.MS_PRIVATE)
    _bind(root, root)
    for name in OWN_DIRECTORIES:
        own_directory(Path(root, name))
    Path(root, "tmp").chmod(0o1777)
    _show_system(root)
    _show_python(layout)
    _own_devices(layout)
    _own_run(root)
    _own_etc(root)
    _own_proc(root)
    ns.enter_root(root)


def unshare_all(*, user_namespace: bool) -> None:
    """Leave the host's namespaces; the next fork is pid 1 of the new ones."""
    write_ids = ns.mapping_to_root() if user_namespace else None
    ns.unshare((ns.NEWUSER if user_namespace else 0) | ns.NEWNS | ns.NEWPID | ns.NEWUTS | ns.NEWIPC)
    if write_ids:
        write_ids()


def _try_all_of_it(root: str, keep: tuple[str, ...], *, user_namespace: bool) -> None:
    """In a forked child: exactly what a boot does, in a scratch directory. Exits, or raises OSError."""
    unshare_all(user_namespace=user_namespace)
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    ns.set_hostname("probe")
    build(Layout(root, keep, passthrough=False))
    if not Path("/proc/1").is_dir() or not Path(sys.prefix).is_dir():
        raise OSError("the new root lacks /proc or Python")
    os._exit(0)


def _probe_once(keep: tuple[str, ...], *, user_namespace: bool) -> str:
    """Empty when everything a boot does works here, else why not."""
    scratch = tempfile.mkdtemp(prefix="understudy-probe-")
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _try_all_of_it(scratch, keep, user_namespace=user_namespace)
        except OSError as error:
            os.write(tell, str(error).encode())
        os._exit(1)
    os.close(tell)
    with os.fdopen(told, "rb") as reader:
        words = reader.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    # mount points only: what was mounted there went with the child's namespace
    shutil.rmtree(scratch)
    return "" if status == 0 else words or f"the trial ended with status {status}"


def probe() -> tuple[str, bool, str]:
    """(isolation "ns" or "plain", whether a user namespace is used, why plain). Forks: call it from a single thread.
    A trial of `unshare` alone would lie: some systems allow it and refuse the mounts."""
    if os.environ.get("LAB_ISOLATION") == "plain":
        return "plain", False, "LAB_ISOLATION=plain asks for it"
    if not sys.platform.startswith("linux"):
        return "plain", False, "namespaces exist on Linux only"
    try:
        keep = python_directories()
    except OSError as error:
        return "plain", False, str(error)
    reasons = []
    for user_namespace in (False, True) if os.geteuid() == 0 else (True,):
        reason = _probe_once(keep, user_namespace=user_namespace)
        if not reason:
            return "ns", user_namespace, ""
        reasons.append(reason)
    return "plain", False, "; ".join(reasons)


def _is_container() -> bool:
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "container" in os.environ:
        return True
    words = ("docker", "kubepods", "containerd", "lxc", "libpod")
    return any(word in Path("/proc/1/cgroup").read_text() for word in words)


def refusal_of_plain() -> str:
    """Why machines without namespaces are not started here; empty when they may be. As root, whoever logs in to one
    would be root on this host."""
    if os.geteuid() != 0 or os.environ.get("LAB_ISOLATION") == "plain" or _is_container():
        return ""
    return (
        "without namespaces a lab machine's root would be this host's root: run the lab as an ordinary user, "
        "in a container, or with LAB_ISOLATION=plain"
    )
