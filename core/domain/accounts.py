"""Accounts: what a provider's API last said of itself and of our credit. Pure."""

from __future__ import annotations

import msgspec


class ProviderStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` is the last listing of the account; a failure says since when and why."""

    name: str
    ok: bool
    since: float
    error: str | None = None
    credit_usd: float | None = None
    lab: bool = False
