"""The files a lab machine is furnished with before it boots: tools, accounts, host key, what /proc says of its
hardware.

One rule: everything lies under the machine's own directory, and a second boot keeps what the user put there.
"""

from __future__ import annotations

import os
import py_compile
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from core.lab import procfs
from core.lab.rootfs import OWN_DIRECTORIES, own_directory

ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:{shell}\nops:x:0:0::/home/ops:{shell}\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": "root:x:0:\ntty:x:5:\nops:x:1000:\nnogroup:x:65534:\n",
    "shadow": "root:*:19000:0:99999:7:::\n",  # the host's own must not show
    "gshadow": "root:*::\n",
}

# Debian's /etc/profile would set PATH anew, without the lab's tools
PROFILE = """export PATH={tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ -n "$BASH_VERSION" ] && [ -n "$PS1" ]; then PS1='\\u@\\h:\\w\\$ '; fi
"""


def python_command() -> str:
    """The interpreter of the lab without its environment: quick to start, always visible in a machine."""
    return getattr(sys, "_base_executable", "") or sys.executable


def _script(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(path)


def host_key(directory: Path) -> str:
    """Made once per machine, beside its root and not in it; PEM text."""
    file = directory / "hostkey"
    if not file.exists():
        new = file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        new.replace(file)
    return file.read_text()


def write_keys(root: Path, authorized_keys: Sequence[str]) -> None:
    """Who may log in from the next login on."""
    lab = root / ".lab"
    own_directory(lab)
    new = lab / "authorized_keys.new"
    new.unlink(missing_ok=True)
    new.write_text("".join(key.strip() + "\n" for key in authorized_keys))
    new.replace(lab / "authorized_keys")


def _tools(root: Path, prefix: str, *, disk_gb: float, cores: int, passthrough: bool) -> None:
    tools = root / ".lab" / "bin"
    place = f"{prefix}/.lab/bin"
    if passthrough:
        (tools / "nvidia-smi").unlink(missing_ok=True)
    else:
        _program(tools, place, "nvidia-smi", "smi")
    for name in ("python3", "python"):  # the image's Python: the lab's own, with its packages
        _script(tools / name, f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    _script(tools / "nproc", f"#!/bin/sh\n# simulated: as the offer has it\necho {int(cores)}\n")
    _program(tools, place, "df", "df", prefix, str(max(1, int(disk_gb * (1 << 20)))))


def _program(tools: Path, place: str, name: str, module: str, *arguments: str) -> None:
    """Install `core/lab/MODULE.py`, compiled: a script would be compiled at every call, 10 ms of 15."""
    source = Path(__file__).with_name(module + ".py")
    py_compile.compile(str(source), cfile=str(tools / f"{module}.pyc"), doraise=True)
    words = [python_command(), "-I", "-S", f"{place}/{module}.pyc", *arguments]
    _script(tools / name, f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')


def _hardware(root: Path, *, cores: int, ram_mib: int) -> None:
    """What /proc shows of the machine in a root of its own; simulated, and from then on kept by the meter."""
    proc = root / ".lab" / "proc"
    (proc / "cpuinfo").write_text(procfs.cpuinfo(cores))
    (proc / "meminfo").write_text(procfs.meminfo(ram_mib, used_mib=0))
    (proc / "stat").write_text(procfs.stat(cores, busy_ticks=0, up_s=0.0))


def _accounts(root: Path, prefix: str, hostname: str) -> None:
    etc = root / ".lab" / "etc"
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    profile = PROFILE.format(tools=shlex.quote(f"{prefix}/.lab/bin"))
    texts = {name: text.format(shell=shell) for name, text in ACCOUNTS.items()}
    texts["hostname"] = hostname + "\n"
    texts["hosts"] = f"127.0.0.1 localhost {hostname}\n::1 localhost\n"
    texts["profile"] = profile
    for name, text in texts.items():
        (etc / name).write_text(text)
    if prefix:
        for home in ("root", "home/ops"):
            (root / home / ".bash_profile").write_text(profile)


def furnish(
    root: Path, *, isolation: str, hostname: str, cores: int, ram_mib: int, disk_gb: float, passthrough: bool,
    authorized_keys: Sequence[str],
) -> None:  # fmt: skip
    """Make or refresh the machine's files. Idempotent. Raises OSError."""
    prefix = "" if isolation == "ns" else str(root)
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    for name in (*OWN_DIRECTORIES, ".lab"):
        own_directory(root / name)
    for name in ("bin", "etc", "proc", "vram"):
        own_directory(root / ".lab" / name)
    (root / "root").chmod(0o700)
    (root / ".lab" / "flood").unlink(missing_ok=True)
    for stale in (root / ".lab" / "vram").iterdir():
        stale.unlink()  # pids of an earlier boot
    write_keys(root, authorized_keys)
    _accounts(root, prefix, hostname)
    _hardware(root, cores=cores, ram_mib=ram_mib)
    _tools(root, prefix, disk_gb=disk_gb, cores=cores, passthrough=passthrough)


def has_real_gpu() -> bool:
    """Whether this host has an NVIDIA GPU and its tool, which a machine can be given."""
    return Path("/dev/nvidia0").exists() and any(
        os.access(f"{directory}/nvidia-smi", os.X_OK) for directory in ("/usr/bin", "/usr/local/bin", "/opt/bin")
    )
