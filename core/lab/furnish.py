"""The files a lab machine is furnished with before it boots: tools, accounts, host key, what /proc says of its hardware.
One rule: everything lies under the machine's own directory, and a second boot keeps what the user put there."""

from __future__ import annotations

import os
import py_compile
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from core.lab import smi
from core.lab.rootfs import OWN_DIRECTORIES, own_directory

MIB = 1 << 20
CPU_MODEL = "Understudy lab vCPU (simulated)"

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

DF = """#!/bin/sh
# The machine's disk as its offer has it (simulated): used is real, size and free follow the offer.
case "$*" in *-i*|*--inodes*|*--output*) exec {df} "$@";; esac
unit=1024; head=1K-blocks
for word in "$@"; do case "$word" in -h|-[a-zA-Z]*h*) unit=h; head=Size;; -m|-BM) unit=1048576; head=1M-blocks;;
-BG) unit=1073741824; head=1G-blocks;; -B1) unit=1; head=1B-blocks;; esac; done
used_k=$(du -skx {workspace} 2>/dev/null | cut -f1)
awk -v unit="$unit" -v head="$head" -v used="${{used_k:-0}}" -v size={size_k} -v mount={workspace} '
function shown(k) {{ return unit == "h" ? sprintf("%.1fG", k / 1048576) : sprintf("%d", k * 1024 / unit) }}
BEGIN {{ free = size - used; if (free < 0) free = 0
printf "Filesystem     %12s %12s %12s Use%% Mounted on\\n", head, "Used", "Available"
printf "/dev/lab       %12s %12s %12s %3d%% %s\\n", shown(size), shown(used), shown(free), 100 * used / size, mount }}'
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
        # compiled once per boot: a script would be compiled at every call, 10 ms of 15
        py_compile.compile(str(smi.__file__), cfile=str(tools / "smi.pyc"), doraise=True)
        launch = f"exec {shlex.quote(python_command())} -I -S {shlex.quote(place + '/smi.pyc')}"
        _script(tools / "nvidia-smi", f'#!/bin/sh\n{launch} "$@"\n')
    for name in ("python3", "python"):  # the image's Python: the lab's own, with its packages
        _script(tools / name, f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    _script(tools / "nproc", f"#!/bin/sh\n# simulated: as the offer has it\necho {int(cores)}\n")
    workspace = shlex.quote(prefix + "/workspace")
    real_df = "/usr/bin/df" if Path("/usr/bin/df").exists() else "/bin/df"
    _script(tools / "df", DF.format(df=real_df, workspace=workspace, size_k=max(1, int(disk_gb * 1e9 / 1024))))


def _hardware(root: Path, *, cores: int, ram_mib: int) -> None:
    """What /proc shows of the machine in a root of its own; simulated."""
    proc = root / ".lab" / "proc"
    block = "processor\t: {0}\nvendor_id\t: Understudy\nmodel name\t: {1}\ncpu MHz\t\t: 2450.000\nphysical id\t: 0\nsiblings\t: {2}\ncore id\t\t: {0}\ncpu cores\t: {2}\n\n"
    (proc / "cpuinfo").write_text("".join(block.format(i, CPU_MODEL, cores) for i in range(cores)))
    (proc / "meminfo").write_text(meminfo(ram_mib, used_mib=ram_mib // 50))


def meminfo(ram_mib: int, *, used_mib: int) -> str:
    """The lines that `free` and psutil read; always the same length, so that it can be rewritten in place."""
    total, used = ram_mib * 1024, min(used_mib, ram_mib) * 1024
    values = {"MemTotal": total, "MemFree": total - used, "MemAvailable": total - used, "Buffers": 0, "Cached": 0,
              "SwapCached": 0, "Active": used, "Inactive": 0, "SwapTotal": 0, "SwapFree": 0, "Dirty": 0, "Shmem": 0,
              "SReclaimable": 0, "Slab": 0}  # fmt: skip
    return "".join(f"{name + ':':<16}{value:>12} kB\n" for name, value in values.items())


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
