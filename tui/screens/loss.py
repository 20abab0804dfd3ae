"""The loss of a workspace over its steps. One rule: what was before this console is asked for once, and never drawn
beside live points of the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from core.domain.errors import UnderstudyError
from core.domain.readings import TelemetryPoint, point
from tui.render.cells import plain
from tui.screens.curves import mode
from tui.widgets.plot import Plot, Series

if TYPE_CHECKING:
    from tui.app import Console

ASK_AGAIN_S = 5.0


class LossPlot(Plot):
    """The curve of the workspace that is chosen."""

    def __init__(self, *, ascii_only: bool, id: str) -> None:
        super().__init__(mode=mode(ascii_only), x_figure=_steps, id=id, classes="pane")
        self.placeholder = "no loss reported yet"
        self._past: dict[str, list[TelemetryPoint]] = {}
        self._asked: set[str] = set()
        self._of: tuple[str, str | None] = ("", None)

    @property
    def console(self) -> Console:
        """The app."""
        return cast("Console", self.app)

    def show_of(self, workspace: str, machine: str | None) -> None:
        """Show the curve of this workspace on this machine; without one nothing was computed yet."""
        self._of = (workspace, machine)
        name = plain(workspace, self.console.glyphs)
        if machine is None:
            self.border_title = f"{name} loss".strip()
            self.show(())
            return
        if machine not in self._asked:
            self._asked.add(machine)
            self.run_worker(self._look_back(machine), group=f"telemetry-{machine}")
        live = [point(reading) for reading in self.console.model.recent.get(machine, ())]
        # the history holds means over some seconds: beside the live points of the same time they would make a saw
        past = [p for p in self._past.get(machine, ()) if not live or p.at < live[0].at]
        curve = loss_curve([*past, *live])
        step = f", step {int(curve[-1][0]):,}" if curve else ""
        self.border_title = f"{name} loss{step}"
        self.show([Series("loss", [x for x, _ in curve], [y for _, y in curve], "plot-1")])

    async def _look_back(self, machine: str) -> None:
        """The curve from before this console was opened, once; without it the live part is shown."""
        try:
            self._past[machine] = await self.console.engine.telemetry(machine)
        except UnderstudyError:
            await asyncio.sleep(ASK_AGAIN_S)
            self._asked.discard(machine)
            return
        self.show_of(*self._of)


def loss_curve(points: Iterable[TelemetryPoint]) -> list[tuple[float, float]]:
    """(step, loss) in order of steps; a step reported again keeps its newest loss."""
    known = {p.step: p.loss for p in sorted(points, key=lambda p: p.at) if p.step is not None and p.loss is not None}
    return sorted((float(step), loss) for step, loss in known.items())


def _steps(value: float) -> str:
    return f"{value:,.0f}"
