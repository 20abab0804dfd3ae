"""The agent as one file to push. Its one rule: the same sources make the same bytes under the same name."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib import resources

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can say: no build time in the bytes
_START = """\
import sys
from core.agent.__main__ import main
sys.exit(main({version!r}, sys.argv[1:]))
"""


@dataclass(frozen=True)
class Archive:
    """`version` is the hash of the sources; `data` is a .pyz that any Python from 3.8 on runs with -I -S."""

    version: str
    data: bytes

    @property
    def name(self) -> str:
        return f"agent-{self.version}.pyz"


@functools.cache
def build() -> Archive:
    """Reads the agent's sources and packs them. Blocking (files), so called in a thread; made once a process."""
    folder = resources.files("core.agent")
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith(".py"))
    sources = {f"core/agent/{name}": folder.joinpath(name).read_bytes() for name in names}
    sources["core/__init__.py"] = b""
    digest = hashlib.sha256()
    for path, data in sorted(sources.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    version = digest.hexdigest()[:16]
    sources["__main__.py"] = _START.format(version=version).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(path, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return Archive(version, out.getvalue())
