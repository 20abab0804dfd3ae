"""The panels there are. Its one rule: a panel is on the list when it works, and imported when first shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from tui.widgets.tabs import Tab

if TYPE_CHECKING:
    from tui.screens.base import Panel


@dataclass(frozen=True)
class PanelSpec:
    """One panel: the id it shares with its action, its key, its names, and where its class is."""

    id: str
    key: str
    title: str
    short: str
    module: str
    name: str

    @property
    def tab(self) -> Tab:
        """Its place on the tab line."""
        return Tab(self.id, self.key, self.title, self.short)

    def factory(self) -> Callable[[], Panel]:
        """Makes the panel, importing it first."""

        def make() -> Panel:
            panel: type[Panel] = getattr(import_module(self.module), self.name)
            return panel()

        return make


PANELS: tuple[PanelSpec, ...] = (
    PanelSpec("overview", "1", "Overview", "Over", "tui.screens.overview", "Overview"),
    PanelSpec("market", "2", "Market", "Mkt", "tui.screens.market", "Market"),
    PanelSpec("machines", "4", "Machines", "Mach", "tui.screens.machines", "Machines"),
    PanelSpec("log", "0", "Log", "Log", "tui.screens.log", "Log"),
)
