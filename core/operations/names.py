"""Ids derived from a token: the same token always names the same machine, whoever asks and however often."""

from __future__ import annotations

import base64
import hashlib


def machine_id_of(token: str) -> str:
    """`m-` and eight letters and digits (40 bits), safe in a path, a label, a host alias."""
    digest = hashlib.blake2s(token.encode(), digest_size=5).digest()
    return "m-" + base64.b32encode(digest).decode().lower()


def workspace_of(token: str) -> str | None:
    """The workspace's name that a token begins with; None when it is not one of ours."""
    parts = token.rsplit(".", 2)
    return parts[0] if len(parts) == 3 and parts[0] else None
