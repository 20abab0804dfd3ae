"""Makes each provider know our public SSH key, so that the machines it makes accept us. Once per engine life."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from core.domain.errors import AuthRefused, ProviderError
from core.providers.base import Provider
from core.services.pace import leave_alone

RETRY_S = 5.0
NO_KEY_RETRY_S = 30.0


@dataclass
class KeyWatch:
    provider: Provider
    public_key: str
    hurried: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while True:
            try:
                await self.provider.authorise_key(self.public_key)
            except AuthRefused:
                await leave_alone(NO_KEY_RETRY_S, self.hurried)  # the account watch says why
            except ProviderError:
                await leave_alone(RETRY_S, self.hurried)
            else:
                return
