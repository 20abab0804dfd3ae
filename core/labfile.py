"""What a running lab says of itself: the file it writes into its home. One rule: its token is never shown."""

from __future__ import annotations

import msgspec

from core.domain.errors import EngineError
from core.home import Home


class LabInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`control` and `endpoints` are loopback URLs; `token` opens all of them."""

    pid: int
    token: str
    control: str
    endpoints: dict[str, str]
    isolation: str = ""
    version: int = 1

    def __repr__(self) -> str:
        return f"LabInfo(pid={self.pid}, control={self.control!r}, endpoints={self.endpoints!r})"


def read(home: Home) -> LabInfo | None:
    """The lab's own word, or None when no lab of this home has said anything. Whether it lives is another question.

    Raises EngineError when the file is there and cannot be understood.
    """
    try:
        data = home.lab_file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=LabInfo)
    except msgspec.DecodeError as e:
        raise EngineError(
            f"The lab's file {home.lab_file} cannot be understood.", hint="Restart the lab: understudy lab up."
        ) from e
