"""Workspaces: a name and a directory tree that outlive the machines under them. Pure."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from core.domain.errors import IntentRefused
from core.domain.units import Kind

WorkspaceState = Literal["renting", "running", "suspect", "retiring", "retired", "failed"]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
MIN_DISK_GB = 8.0  # Vast.ai's floor for a contract's disk
DEFAULT_DISK_GB = 40.0


class UpSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` asks for. `None`: no wish. `for_s`: the machine ends after so many seconds, engine or no engine.

    `offer` alone means that one and no other; with `or_like`, that one first and then what the other wishes mean.
    """

    gpu: str | None = None
    count: int = 1
    kind: Kind = "on-demand"
    offer: str | None = None
    or_like: bool = False
    provider: str | None = None
    region: str | None = None
    image: str | None = None
    disk_gb: float = DEFAULT_DISK_GB
    strategy: Literal["cheapest"] = "cheapest"
    max_usd_per_hour: float | None = None
    min_vram_gb: float | None = None
    min_reliability: float | None = None
    for_s: float | None = None


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """`primary`: the id of the machine it lives on; `epoch` rises with every promotion (none yet: 1)."""

    name: str
    state: WorkspaceState
    state_since: float
    spec: UpSpec
    created_at: float
    epoch: int = 1
    active: Literal["primary", "standby"] | None = None
    primary: str | None = None
    standby: str | None = None
    reason: str | None = None
    operation: str | None = None
    actor: str = ""


def check_name(name: str) -> str:
    """The name itself when it can be one. Raises IntentRefused: it becomes a host alias, a label and a path."""
    if not _NAME.fullmatch(name):
        raise IntentRefused(
            f"'{name[:60]}' cannot be a workspace's name.",
            hint="Use a letter, then at most 39 lower-case letters, digits and '-'.",
        )
    return name
