"""What can be done to a machine or a workspace wherever it is a row. One rule: money and loss are said before."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar, NamedTuple

from textual.binding import BindingType

from core.domain import api
from core.domain.errors import UnderstudyError
from core.domain.machines import GONE, Machine, cost_usd
from tui.actions import ROW, Action
from tui.bindings import bindings
from tui.intents import operation_id
from tui.render.cells import Line, age, money, plain
from tui.screens.base import Panel
from tui.screens.confirm import TypeTheName
from tui.screens.menu import Choice, Menu
from tui.screens.shell import shell
from tui.widgets.columns import Column

LISTED_MAX = 12  # lines of a bulk list before the rest is a count; a sheet must fit 24 lines


class Target(NamedTuple):
    """What a row stands for: a workspace, a machine, or a stranger by `provider:provider_id`."""

    workspace: str | None = None
    machine: str | None = None
    stranger: str | None = None

    @property
    def name(self) -> str:
        """What it is called: the workspace's name when it has one."""
        return self.workspace or self.machine or self.stranger or ""


class RowPanel(Panel):
    """A panel whose rows are machines or workspaces."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(ROW)

    # -- what a subclass gives -----------------------------------------------------------------------------------------

    def targets(self) -> list[Target]:
        """The marked rows, else the one under the cursor."""
        return []

    # -- finding -------------------------------------------------------------------------------------------------------

    def target(self, name: str = "") -> Target | None:
        """The one row that is meant: by name, else the first of `targets`; says so when there is none."""
        if name:
            found = self._named(name)
            if found is None:
                self.console.say(f"There is no workspace or machine {name!r}.", "warning")
            return found
        chosen = self.targets()
        if not chosen:
            self.console.say("There is no row here to do that to.", "warning")
            return None
        return chosen[0]

    def _named(self, name: str) -> Target | None:
        state = self.model.state
        if name in state.workspaces:
            return Target(workspace=name, machine=state.workspaces[name].primary)
        if name in state.machines:
            return Target(workspace=state.machines[name].workspace, machine=name)
        return Target(stranger=name) if name in state.strangers else None

    def machine_of(self, target: Target) -> Machine | None:
        """The machine behind a row: its own, or the newest of its workspace that is not gone."""
        machines = self.model.state.machines
        if target.machine is not None:
            return machines.get(target.machine)
        of = [m for m in machines.values() if m.workspace == target.workspace and m.state not in GONE]
        return max(of, key=lambda m: m.asked_at or 0.0, default=None)

    def row_name(self) -> str:
        chosen = self.targets()
        return f"{len(chosen)} marked" if len(chosen) > 1 else chosen[0].name if chosen else ""

    def offered(self, action: Action) -> bool:
        chosen = self.targets()
        if action.id in ("shell", "logs", "destroy", "row-events", "fault") and not chosen:
            return False
        if action.id == "adopt":
            return any(one.stranger for one in chosen)
        if action.id in ("shell", "logs", "stop", "start", "fault", "destroy") and all(one.stranger for one in chosen):
            return False
        return super().offered(action)

    # -- doing ---------------------------------------------------------------------------------------------------------

    async def ask(self, asked: Awaitable[api.Accepted], said: str) -> bool:
        """Send an intent, remember its operation, say what was asked; an error is a sentence and its next step."""
        try:
            accepted = await asked
        except UnderstudyError as error:
            self.console.complain(error)
            return False
        self.console.started.add(accepted.operation)
        self.console.say(said)
        return True

    async def action_shell(self, name: str = "") -> None:
        """A shell on the row's machine."""
        target = self.target(name)
        if target is None:
            return
        machine = self.machine_of(target)
        if machine is None or machine.state not in ("ready", "checking", "lost"):
            state = machine.state if machine else "not there yet"
            self.console.say(f"{target.name} cannot be reached: it is {state}.", "warning")
            return
        await shell(self.console, target.workspace or machine.id)

    def action_logs(self, name: str = "") -> None:
        """The row's machine with its log in front."""
        target = self.target(name)
        machine = self.machine_of(target) if target else None
        if machine is None:
            if target is not None:
                self.console.say(f"{target.name} has no machine to read a log from.", "warning")
            return
        from tui.screens.machine import MachineScreen

        self.app.push_screen(MachineScreen(machine.id, log=True))

    async def action_row_events(self, name: str = "") -> None:
        """The log, with only what happened to this row."""
        target = self.target(name)
        if target is None:
            return
        about = f"workspace:{target.workspace}" if target.workspace else target.machine or target.name.partition(":")[2]
        await self.app.switch_mode("log")
        panel = self.console.panel
        if panel is not None:
            panel.filter_text = about
            panel.apply_filter(about)

    def action_destroy(self, name: str = "") -> None:
        """Ask for the name, then retire or destroy."""
        chosen = [self.target(name)] if name else self.targets()
        wanted = [one for one in chosen if one is not None and not one.stranger and not self._ending(one)]
        if not wanted:
            ending = any(one is not None and self._ending(one) for one in chosen)
            said = "It is being destroyed already; it bills until it is proven gone."
            self.console.say(said if ending else "There is nothing of ours here to destroy.", "warning")
            return
        one = wanted[0]
        title = f"Destroy {one.name}" if len(wanted) == 1 else f"Destroy {len(wanted)}"
        typed = one.name if len(wanted) == 1 else f"destroy {len(wanted)}"

        async def answered(yes: bool | None) -> None:
            if yes:
                for target in wanted:
                    await self._destroy(target)

        self.app.push_screen(TypeTheName(title, typed, self._what_is_lost(wanted)), answered)

    def _ending(self, target: Target) -> bool:
        machine = self.machine_of(target)
        return machine is not None and (machine.state == "destroying" or machine.state in GONE)

    async def _destroy(self, target: Target) -> None:
        engine = self.console.engine
        if target.workspace is not None and target.workspace in self.model.state.workspaces:
            down = api.DownIntent(operation=operation_id("down", target.workspace), name=target.workspace)
            await self.ask(engine.down(down), f"{target.name}: destroy asked for; it bills until proven gone")
        elif target.machine is not None:
            intent = api.MachineIntent(
                operation=operation_id("destroy", target.machine), machine=target.machine, verb="destroy"
            )
            await self.ask(engine.machine(intent), f"{target.name}: destroy asked for; it bills until proven gone")

    def _what_is_lost(self, wanted: Sequence[Target]) -> list[Line]:
        g, now = self.glyphs, self.now
        lines: list[Line] = [
            [("What is on the disk is lost." if len(wanted) == 1 else "What is on these disks is lost.", "")],
            [],
        ]
        saved = 0.0
        for target in wanted:
            machine = self.machine_of(target)
            if machine is None:
                lines.append([(f"{target.name}  ", "bold"), ("no machine any more", "muted")])
                continue
            saved += machine.burn_usd_per_hour
            up = age(None if machine.rented_at is None else now - machine.rented_at, g)
            rate = f"${money(machine.burn_usd_per_hour, g)}/h, ${money(cost_usd(machine, now), g)} so far"
            what = f", {machine.gpu_count}x {machine.gpu} from {machine.provider}, up {up}"
            lines.append([(f"{target.name}  ", "bold"), (rate, "money"), (plain(what, g), "muted")])
        if len(lines) > LISTED_MAX + 2:
            rest = len(lines) - 2 - LISTED_MAX
            lines[LISTED_MAX + 2 :] = [[(f"and {rest} more", "muted")]]
        return [*lines, [], [(f"Saves ${money(saved, g)}/h. It cannot be undone.", "warn")]]

    async def action_machine_verb(self, verb: str, name: str = "") -> None:
        """Stop, start or adopt the chosen machines."""
        chosen = [self.target(name)] if name else self.targets()
        for target in chosen:
            if target is None or bool(target.stranger) != (verb == "adopt"):
                continue
            machine = target.stranger or target.machine
            if machine is None:
                continue
            intent = api.MachineIntent(operation=operation_id(verb, machine), machine=machine, verb=verb)  # type: ignore[arg-type]
            said = {"stop": "stop asked for; its disk keeps billing", "start": "start asked for", "adopt": "adopted"}
            await self.ask(self.console.engine.machine(intent), f"{target.name}: {said[verb]}")

    async def action_fault(self, fault: str = "", name: str = "") -> None:
        """Choose a fault of the lab and let it happen to this machine."""
        if not self.model.lab:
            self.console.say("Faults are the lab's; these machines are real.", "warning")
            return
        target = self.target(name)
        machine = self.machine_of(target) if target else None
        if machine is None:
            return
        if fault:
            await self._fault(fault, machine.id)
            return
        try:
            faults = await self.console.engine.faults()
        except UnderstudyError as error:
            self.console.complain(error)
            return

        async def chosen(wanted: str | None) -> None:
            if wanted is not None:
                await self._fault(wanted, machine.id)

        columns = (Column("fault", "FAULT", 18), Column("help", "WHAT HAPPENS", 20, flex=1))
        menu = Menu(f"lab fault on {machine.id}", columns, fault_choices(faults), "enter makes it happen, esc leaves")
        self.app.push_screen(menu, chosen)

    async def _fault(self, fault: str, machine: str) -> None:
        intent = api.FaultIntent(operation=operation_id("fault", machine), name=fault, machine=machine)
        try:
            await self.console.engine.fault(intent)
        except UnderstudyError as error:
            self.console.complain(error)
            return
        self.console.say(f"lab: {fault} on {machine}")


def fault_choices(faults: Sequence[dict[str, Any]]) -> list[Choice]:
    """The lab's faults as lines of a menu."""
    lines = []
    for fault in faults:
        name = str(fault.get("name", ""))
        said = str(fault.get("help") or fault.get("what") or "")
        lines.append(Choice(name, ((name, "bold", ""), (said, "muted", ""))))
    return lines
