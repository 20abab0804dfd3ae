"""The rent sheet: the plan with all its money, and after enter the timeline of what happens.

One rule: nothing is rented that was not shown with its price, and the sheet can be left at any moment: it goes on.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widgets import Input, Static

from core.domain import api
from core.domain.errors import IntentRefused, UnderstudyError
from core.domain.market import Offer
from core.domain.operations import Operation
from core.domain.workspaces import MIN_DISK_GB, UpSpec, check_name
from tui.intents import duration_s, operation_id
from tui.render import conditions, operations
from tui.render.cells import Line as Spans
from tui.render.cells import money, plain
from tui.render.machines import gpus_text, place
from tui.render.rent import Wish, plan_lines
from tui.screens.confirm import Sheet, Text
from tui.widgets.line import Line
from tui.widgets.timeline import Stage, Timeline

if TYPE_CHECKING:
    from tui.app import Console

TYPED_S = 0.25
"""How long typing rests before the plan is asked for anew."""
WATCH_S = 0.2
LIKE_IT = 1.2
"""How much dearer, all in, another offer may be that is taken when this one fails; the sheet shows the limit."""
TRY_BEGINS = "choose an offer"
"""The step with which a rent tries another offer."""
FRAME_ROWS = 9
"""Rows of the card that are not the timeline."""
NAMES = ("work", "train", "tune", "test", "lab", "try")


class RentSheet(Sheet[str]):
    """Rents one offer; dismissed with the workspace's name when it was asked for."""

    title_text: ClassVar[str] = "Rent"

    CSS = """
    RentSheet > #card { width: 100; }
    RentSheet.-low > #card { padding: 0 1; max-height: 100%; }
    RentSheet #form { height: auto; }
    RentSheet .field { height: 1; }
    RentSheet .field Line { width: 1fr; margin: 0; }
    RentSheet .label { width: 10; color: $role-muted; }
    """

    def __init__(self, offer: Offer, disk_gb: float) -> None:
        super().__init__()
        self.offer = offer
        self.disk_gb = disk_gb
        self.plan: api.Plan | None = None
        self.operation: str | None = None
        self.asked_at = 0.0
        self.workspace = ""
        self._wished: tuple[str, str, str] | None = None
        self._typing: Timer | None = None

    @property
    def console(self) -> Console:
        return cast("Console", self.app)

    def card(self) -> ComposeResult:
        g, offer = self.console.glyphs, self.offer
        host = f"{offer.provider} {place(offer.region, offer.country)}, host {offer.host_id}, {offer.kind}"
        lab = ", lab" if self.console.model.lab else ""
        yield Text(
            [
                [
                    (plain(gpus_text(offer.gpu_count, offer.gpu, g), g), "title bold"),
                    (plain(f"  {host}{lab}", g), "muted"),
                ],
                [],
            ],
            id="offer-line",
        )
        with Vertical(id="form"):
            for label, id, value, note in (
                ("name", "name", self._free_name(), "how it is called, wherever it lives"),
                ("for", "for", "", "8h, 2d: then it ends itself; empty: until you destroy it"),
                ("disk GB", "disk", f"{self.disk_gb:.0f}", "the price includes it"),
            ):
                with Horizontal(classes="field"):
                    yield Static(f"{label:<9}", classes="label", markup=False)
                    yield Line(value=value, placeholder=note, id=id)
        yield Text([], id="plan")
        yield Timeline(ascii_only=self.console.ascii_only, id="timeline")
        yield Text([], id="say")

    def on_mount(self) -> None:
        self.query_one(Timeline).display = False
        self.query_one("#for", Line).focus()
        self.ask_plan()
        self.set_interval(WATCH_S, self.watch_operation)

    def _free_name(self) -> str:
        taken = self.console.model.state.workspaces
        free = (name for name in (*NAMES, *(f"work-{n}" for n in range(2, 10_000))) if name not in taken)
        return next(free, "work")

    # -- the plan ------------------------------------------------------------------------------------------------------

    @on(Input.Changed)
    def typed(self, message: Input.Changed) -> None:
        message.stop()
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(TYPED_S, self.ask_plan)

    def wish(self) -> tuple[Wish, UpSpec]:
        """What the fields say. Raises ValueError or IntentRefused with a sentence."""
        name = check_name(self._value("name"))
        for_s = duration_s(self._value("for"))
        try:
            disk_gb = float(self._value("disk"))
        except ValueError:
            raise ValueError(f"{self._value('disk')!r} is no size; write GB as a number.") from None
        if disk_gb < MIN_DISK_GB:
            raise ValueError(f"A disk has at least {MIN_DISK_GB:.0f} GB.")
        offer = self.offer
        spec = UpSpec(
            gpu=offer.gpu,
            count=offer.gpu_count,
            kind=offer.kind,
            offer=offer.id,
            or_like=True,
            max_usd_per_hour=round(offer.all_in_usd_per_hour(disk_gb) * LIKE_IT, 4),
            provider=offer.provider,
            disk_gb=disk_gb,
            for_s=for_s,
        )
        return Wish(name, offer, for_s, disk_gb), spec

    def _value(self, id: str) -> str:
        return self.query_one(f"#{id}", Line).value.strip()

    def ask_plan(self) -> None:
        """Ask what it would cost, unless nothing changed or it is rented already."""
        typed = (self._value("name"), self._value("for"), self._value("disk"))
        if self.operation is None and typed != self._wished:
            self._wished = typed
            self.run_worker(self._plan(), group="plan", exclusive=True)

    async def _plan(self) -> None:
        g = self.console.glyphs
        try:
            wish, spec = self.wish()
            intent = api.UpIntent(operation=operation_id("plan", wish.name), name=wish.name, spec=spec, dry_run=True)
            plan = await self.console.engine.plan(intent)
        except (ValueError, UnderstudyError) as error:
            self.plan = None
            self._say_no(error)
            return
        self.plan = plan
        self.query_one("#plan", Text).show([[], *plan_lines(wish, plan, self.console.clock.now(), g)])
        if plan.refused:
            self._refuse(plan.refused, plan.hint)
        else:
            rents = f"rents it for ${money(plan.all_in_usd_per_hour, g)}/h   "
            self._say([[], [("enter ", "key bold"), (rents, ""), ("esc ", "key bold"), ("leaves", "")]])

    def _say_no(self, error: Exception) -> None:
        self._refuse(str(error), getattr(error, "hint", ""))

    def _refuse(self, reason: str, hint: str) -> None:
        """The reason and the next step, broken into the card's width."""
        width = max(20, self.query_one("#card").size.width)
        lines: list[Spans] = [[]]
        for line in conditions.failed(reason, hint, self.console.glyphs):
            role = line[-1][1]
            lines += [[(part, role)] for part in textwrap.wrap("".join(text for text, _ in line), width)]
        self._say(lines)

    def _say(self, lines: list[Spans]) -> None:
        self.query_one("#say", Text).show(lines)

    # -- renting -------------------------------------------------------------------------------------------------------

    @on(Input.Submitted)
    def submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.action_confirm()

    @on(Line.Left)
    def left(self, message: Line.Left) -> None:
        message.stop()
        self.action_leave()

    def action_leave(self) -> None:
        self.dismiss(self.workspace or None)

    def action_confirm(self) -> None:
        """Rent it when the plan shown is the plan wished for; a second enter never rents twice."""
        if self.operation is not None:
            self.action_leave()
            return
        typed = (self._value("name"), self._value("for"), self._value("disk"))
        if self.plan is None or self.plan.refused or typed != self._wished:
            self.ask_plan()
            return
        self.run_worker(self._rent(), group="rent", exclusive=True)

    async def _rent(self) -> None:
        try:
            wish, spec = self.wish()
        except (ValueError, IntentRefused) as error:
            self._say_no(error)
            return
        self.operation = operation_id("up", wish.name)
        self.asked_at = self.console.clock.now()
        try:
            accepted = await self.console.engine.up(api.UpIntent(operation=self.operation, name=wish.name, spec=spec))
        except UnderstudyError as error:
            self.operation = None
            self._say_no(error)
            return
        self.operation, self.workspace = accepted.operation, wish.name
        self.console.started.add(accepted.operation)
        self.query_one("#form").display = False
        self.query_one("#plan", Text).display = False
        self.query_one(Timeline).display = True
        self.set_focus(None)
        self.watch_operation()

    def watch_operation(self) -> None:
        """The timeline from what the engine says; before it says anything, that it was asked and since when."""
        if self.operation is None or not self.workspace:
            return
        try:
            timeline = self.query_one(Timeline)
        except NoMatches:
            return
        now, g = self.console.clock.now(), self.console.glyphs
        operation = self.console.model.state.operations.get(self.operation)
        if operation is None:
            timeline.show([Stage("asked the engine", "running", 0.0, max(0.0, now - self.asked_at))])
            return
        timeline.show(stages(operation, now, self.app.size.height - FRAME_ROWS))
        self.query_one("#offer-line", Text).show([operations.headline(operation, now, g), []])
        ends: Spans = [("esc ", "key bold"), ("leaves; it goes on by itself", "muted")]
        if operation.state == "done":
            ends = [("esc ", "key bold"), (f"back to the market; {self.workspace} is ready", "good")]
        elif operation.reason:
            ends = [(plain(operation.reason, g), "bad")]
        self._say([[], ends])


def stages(operation: Operation, now: float, most: int = 1_000) -> list[Stage]:
    """An operation's steps as the timeline takes them; where there are too many, those of earlier tries become one."""
    rows = operations.rows(operation, now)
    made = [Stage(row.name, row.state, row.offset_s, row.took_s, row.detail, row.attempt) for row in rows]
    again = [at for at, stage in enumerate(made) if stage.name == TRY_BEGINS and stage.start_s is not None]
    if len(made) + 1 <= most or len(again) < 2:
        return made
    reasons = [stage.detail for stage in made[: again[-1]] if stage.state == "failed" and stage.detail]
    lost = Stage(f"{len(again) - 1} given back", "failed", 0.0, made[again[-1]].start_s, " ".join(reasons[-1:]))
    return [lost, *made[again[-1] :]]
