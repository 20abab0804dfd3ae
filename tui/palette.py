"""What ctrl+p finds: actions with their keys, panels, machines, workspaces, themes. Its one rule: choosing a line does
what its key or its command would do, nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from core.domain.machines import GONE
from tui.actions import EVERYWHERE, LIST, LOG, Action, shown
from tui.app import Console


@dataclass(frozen=True)
class Line:
    """One line of the palette."""

    text: str
    help: str
    do: Callable[[], Awaitable[None]]


class Everything(Provider):
    """All lines, fuzzy."""

    @property
    def console(self) -> Console:
        """The app."""
        return cast(Console, self.app)

    async def discover(self) -> Hits:
        """What is shown before anything is typed: the actions of this place."""
        for line in self._actions():
            yield DiscoveryHit(unmarked(line.text), line.do, help=unmarked(line.help))

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query)
        async for line in self._all():
            text = unmarked(line.text)
            score = matcher.match(text)
            if score > 0:
                yield Hit(score, matcher.highlight(text), line.do, text=text, help=unmarked(line.help))

    async def _all(self) -> AsyncIterator[Line]:
        for source in (self._actions, self._workspaces, self._machines, self._themes):
            for line in source():
                yield line

    def _actions(self) -> Iterator[Line]:
        console = self.console
        panel = console.panel
        for action in sorted(console.registry.actions, key=lambda action: EVERYWHERE in action.where):
            if set(action.where) & {LIST, LOG, "dialog"} or (panel is not None and not panel.offered(action)):
                continue
            yield Line(name_of(action), action.help, partial(console.perform, action))

    def _machines(self) -> Iterator[Line]:
        for machine in self.console.model.state.machines.values():
            if machine.state not in GONE:
                about = f"{machine.gpu_count}x {machine.gpu}, {machine.state}, {machine.provider}"
                yield Line(f"machine {machine.id}", about, partial(self.console.show, "machines", machine.id))

    def _workspaces(self) -> Iterator[Line]:
        for workspace in self.console.model.state.workspaces.values():
            yield Line(
                f"workspace {workspace.name}",
                f"{workspace.state}",
                partial(self.console.show, "overview", workspace.name),
            )

    def _themes(self) -> Iterator[Line]:
        theme = self.console.registry.get("theme")
        for name in self.console.theme_names:
            yield Line(f"theme {name}", "Change the colours.", partial(self.console.perform, theme, [name]))


def name_of(action: Action) -> str:
    """An action with its key, as the palette lists it."""
    return f"{action.label}  ({shown(action.keys[0])})" if action.keys else action.label


def unmarked(text: str) -> str:
    """Text that the palette cannot take for markup: a provider's words must not style, or break, the list."""
    return text.replace("[", "(").replace("]", ")")
