"""What operations need, in the one module-level place that the house allows: recovery can hand nothing over.

One rule: the composition root fills it before DBOS is launched, and nobody else writes to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from core.operations.judge import Uplink
from core.operations.reach import Reach
from core.operations.views import AccountView, MarketView
from core.providers.base import Provider
from core.store.store import Store


@dataclass
class RentRules:
    """How patient and how strict `rent` is; from the [rent] settings."""

    image: str = ""
    attempts: int = 4
    boot_timeout_s: float = 600.0
    ssh_timeout_s: float = 180.0
    offer_max_age_s: float = 20.0
    disk_tolerance: float = 0.3
    vram_tolerance: float = 0.05
    net_tolerance: float = 0.7
    judge_network: bool = True
    poll_s: float = 0.0


@dataclass
class Context:
    store: Store
    providers: dict[str, Provider]
    accounts: dict[str, AccountView]
    market: MarketView
    reach: Reach
    rules: RentRules
    owner: str
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    uplink: Uplink = field(default_factory=Uplink)
    destroy_refusals: dict[str, str] = field(default_factory=dict)


_context: Context | None = None


def fill(context: Context) -> None:
    """Called once by the composition root, before launch."""
    global _context  # noqa: PLW0603 - the one global that recovery makes necessary, see .github/decisions
    _context = context


def ctx() -> Context:
    if _context is None:
        raise RuntimeError("operations run only inside an engine")
    return _context


LABEL_ROOT = "understudy"


def label_prefix(owner: str) -> str:
    return f"{LABEL_ROOT}/{owner}/"


def label(owner: str, token: str) -> str:
    """What the provider keeps with the machine: it finds its intent again by it, whatever was lost."""
    return label_prefix(owner) + token


def split_label(text: str) -> tuple[str, str] | None:
    """(owner, token) of a label that some Understudy wrote; None for any other."""
    parts = text.split("/", 2)
    if len(parts) == 3 and parts[0] == LABEL_ROOT and parts[1] and parts[2]:
        return parts[1], parts[2]
    return None
