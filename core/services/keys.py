"""Makes each provider know our public SSH key, so that the machines it makes accept us. Once per engine life."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from core.domain.errors import AuthRefused, ProviderError
from core.providers.base import Provider

RETRY_S = 5.0
NO_KEY_RETRY_S = 30.0


@dataclass
class KeyWatch:
    provider: Provider
    public_key: str

    async def run(self) -> None:
        while True:
            try:
                await self.provider.authorise_key(self.public_key)
            except AuthRefused:
                await asyncio.sleep(NO_KEY_RETRY_S)  # the account watch says why; a key may be set at any time
            except ProviderError:
                await asyncio.sleep(RETRY_S)
            else:
                return
