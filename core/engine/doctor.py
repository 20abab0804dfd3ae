"""Checks: what is wrong here, one line each, with what to do about it. Read-only calls only."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.domain.api import Check, DoctorReply
from core.domain.errors import ProviderError, StoreError
from core.home import Home
from core.operations.context import Context
from core.providers.base import Provider

DISK_LOW_BYTES = 512 * 1024 * 1024
CLOCK_SKEW_S = 5.0


@dataclass
class Doctor:
    home: Home
    context: Context
    problems: tuple[str, ...]
    isolation: Callable[[], str | None]

    async def run(self) -> DoctorReply:
        checks = [self._config(), self._disk(), self._socket(), self._ssh(), self._sleep()]
        checks.append(await self._database())
        checks += await asyncio.gather(*(self._provider(p) for p in self.context.providers.values()))
        lab = self._lab()
        if lab is not None:
            checks.append(lab)
        return DoctorReply(ok=all(c.ok for c in checks), checks=checks)

    def _config(self) -> Check:
        detail = "; ".join(self.problems) or str(self.home.config_file)
        hint = "understudy config list shows what is understood." if self.problems else ""
        return Check(name="configuration", ok=not self.problems, detail=detail, hint=hint)

    async def _database(self) -> Check:
        """Writes and takes back nothing: a transaction that says no fact. A dead database refuses it."""
        try:
            await self.context.store.write(lambda tx: tx.state.seq)
        except StoreError as e:
            return Check(name="database", ok=False, detail=str(e), hint=e.hint)
        return Check(name="database", ok=True, detail=f"{self.context.store.state.seq} facts in the journal")

    def _disk(self) -> Check:
        free = shutil.disk_usage(self.home.state).free
        detail = f"{free / 1e9:.1f} GB free in {self.home.state}"
        return Check(
            name="disk of the home",
            ok=free > DISK_LOW_BYTES,
            detail=detail,
            hint="" if free > DISK_LOW_BYTES else "Free some space: a full disk stops every rent.",
        )

    def _socket(self) -> Check:
        mode = self.home.socket.stat().st_mode & 0o777
        return Check(name="socket", ok=mode == 0o600, detail=f"{self.home.socket}, mode {mode:o}")

    def _ssh(self) -> Check:
        found = shutil.which("ssh")
        hint = "" if found else "Install OpenSSH's client: the shell key and understudy ssh need it."
        return Check(name="OpenSSH", ok=found is not None, detail=found or "no ssh command", hint=hint)

    def _sleep(self) -> Check:
        """A laptop's engine sleeps with it. Told by a battery in /sys/class/power_supply (Linux)."""
        supplies = Path("/sys/class/power_supply")
        battery = supplies.is_dir() and any(p.name.startswith("BAT") for p in supplies.iterdir())
        detail = (
            "this machine has a battery: when it sleeps, so does the engine"
            if battery
            else "never, as far as can be told"
        )
        hint = "Run the engine on a machine that stays on: understudy engine install-service." if battery else ""
        return Check(name="sleep", ok=True, detail=detail, hint=hint)

    async def _provider(self, provider: Provider) -> Check:
        name = f"{provider.name}{' (lab)' if provider.simulated else ''}"
        try:
            account = await provider.account()
        except ProviderError as e:
            return Check(name=name, ok=False, detail=str(e), hint=e.hint or f"understudy secrets set {provider.name}")
        credit = "credit unknown" if account.credit_usd is None else f"${account.credit_usd:.2f} of credit"
        skew = account.clock_skew_s
        if skew is not None and abs(skew) > CLOCK_SKEW_S:
            return Check(
                name=name,
                ok=False,
                detail=f"{credit}; its clock is {abs(skew):.0f} s {'before' if skew > 0 else 'behind'} ours",
                hint="Set this machine's clock (NTP); ages shown here are by our own clock.",
            )
        return Check(name=name, ok=True, detail=credit)

    def _lab(self) -> Check | None:
        if not self.home.is_lab:
            return None
        isolation = self.isolation()
        detail = f"machines are isolated by {isolation}" if isolation else "not running"
        plain = isolation == "plain"
        if plain and os.geteuid() == 0:
            detail += ": commands on a lab machine run as root on this host"
        hint = "Namespaces are refused on this host: absolute paths are not promised." if plain else ""
        return Check(name="lab", ok=isolation is not None, detail=detail, hint=hint)
