"""The console's frame: panels, global keys, theme, pulse. Its one rule: no feature lives here; a panel has it.

The picture moves by pulses: the bridge writes the model and says so; five times a second at most the panel in front is
told which topics changed, at once where a fact arrived. Nothing is told while the operator holds the picture still.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.screen import Screen
from textual.theme import Theme

from tui import themes
from tui.actions import EVERYWHERE, Action, Registry, rebind
from tui.bindings import bindings
from tui.clock import Clock
from tui.model import Connection, Model
from tui.panels import PANELS, PanelSpec
from tui.render.cells import Glyphs, glyphs
from tui.screens.base import NARROW, Opening, Panel

if TYPE_CHECKING:
    from pathlib import Path

    from textual.command import Provider

    from core.client import EngineClient
    from core.home import Home

PULSE_S = 0.2
SLOW_PULSE_S = 0.5  # for curves
FIRST_PAINT_S = 0.03
"""Time that the first picture has to reach the terminal before the way to the engine is imported."""
TICK_S = 1.0
TOAST_S = 4.0
KEPT_S = 15.0  # what is wrong with the configuration, said at the start
UNDO_S = 5.0
COPY_LIMIT_BYTES = 50_000
"""Terminals cut or refuse a longer OSC 52."""


def _palette() -> type[Provider]:
    """What the palette finds, imported when it is first opened."""
    from tui.palette import Everything

    return Everything


class Console(App[int], inherit_bindings=False):
    """The application. Its exit value is the process's exit code."""

    TITLE = "Understudy"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings(EVERYWHERE)
    COMMAND_PALETTE_BINDING = "ctrl+p"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_palette}
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - the toolkit declares it for instances
        (0, "-narrow"),
        (NARROW, "-normal"),
        (160, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-high")]  # noqa: RUF012 - likewise

    def __init__(
        self,
        engine: Callable[[], EngineClient],
        *,
        theme: str | None = None,
        user_themes: Path | None = None,
        keys: Mapping[str, Any] | None = None,
        ascii_only: bool = False,
        clock: Clock | None = None,
        home: Home | None = None,
        environment: Mapping[str, str] | None = None,
        panels: Sequence[PanelSpec] = PANELS,
        stands: Callable[[], None] = lambda: None,
    ) -> None:
        """``engine`` is called once the first picture stands, after ``stands``: its import is not on the way to it."""
        self.theme_names: tuple[str, ...] = ()
        loaded = themes.load(user_themes)
        self.colourless = bool((environment or {}).get("NO_COLOR"))
        name, sentence = themes.choose(theme, loaded.themes, environment or {})
        # only where the toolkit knows of an ansi theme from the start does NO_COLOR mean none, instead of greys
        super().__init__(ansi_color=True if self.colourless else None)
        self.clock = clock or Clock()
        self.home = home
        self.registry: Registry = rebind(keys or {})
        self.glyphs: Glyphs = glyphs(ascii_only)
        self.ascii_only = ascii_only
        self.model = Model(Connection("connecting", self.clock.now()))
        self.panels = tuple(panels)
        self.tabs = tuple(panel.tab for panel in panels)
        self.paused_since: float | None = None
        self.started: set[str] = set()
        """Operations that were asked for here: quitting asks once while one of them runs."""
        self.history: list[str] = []
        self._make_engine = engine
        self._stands = stands
        self._engine: EngineClient | None = None
        self._undo: tuple[float, Callable[[], Awaitable[None]]] | None = None
        self._urgent = False
        self._drew_at = float("-inf")
        self._slow: set[str] = set()
        self._complaints = list(self.registry.complaints)
        for panel in panels:
            self.add_mode(panel.id, panel.factory())
        self._complaints += loaded.complaints + ([sentence] if sentence else [])
        for made in loaded.themes.values():
            self.register_theme(made)
        self.theme_names = tuple(loaded.themes)
        self._start_with(name)

    def _start_with(self, name: str) -> None:
        """The first theme. Set before anything is styled, it spares a second reading of every style sheet."""
        theme = self.available_themes[name]
        if theme.ansi:
            self.theme = name
            return
        self.set_reactive(App.theme, name)
        self.stylesheet.set_variables(self.get_css_variables())
        self.set_class(theme.dark, "-dark-mode", update=False)
        self.set_class(not theme.dark, "-light-mode", update=False)
        self.set_class(True, f"-theme-{name}", update=False)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Roles for a theme that brings none of its own, such as one of Textual's."""
        current: Theme = self.current_theme
        return {} if current.name in self.theme_names else themes.role_variables(current)

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def engine(self) -> EngineClient:
        """The way to the engine."""
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    def get_default_screen(self) -> Panel:
        """The frame alone: it stands while the first panel is still being imported."""
        return Opening(self.panels[0].id)

    def on_mount(self) -> None:
        """Let the frame stand, and only then bring the first panel and look for the engine."""
        self.set_keymap(dict(self.registry.changed))
        self.set_class(self.ascii_only, "-ascii")
        self.call_after_refresh(self.set_timer, FIRST_PAINT_S, self._begin)

    def _begin(self) -> None:
        self._stands()
        if isinstance(self.screen, Opening):
            self.switch_mode(self.panels[0].id)
        self.run_worker(self._follow(), name="bridge", group="bridge", exit_on_error=True)
        self.set_interval(PULSE_S, self.pulse)
        self.set_interval(TICK_S, self.tick)
        for sentence in self._complaints:
            self.say(sentence, "warning", keep=True)
        self._complaints.clear()

    async def _follow(self) -> None:
        from tui.bridge import Bridge

        await Bridge(self.engine, self.model, self.model_changed, clock=self.clock).run()

    def model_changed(self, urgent: bool) -> None:
        """The bridge wrote the model; what is urgent is painted with the next frame."""
        if urgent and not self._urgent:
            self._urgent = True
            self.call_later(self._pulse_now)

    def _pulse_now(self) -> None:
        self._urgent = False
        self.pulse()

    def pulse(self, *, second: bool = False) -> None:
        """Tell the panel in front what changed since the last pulse; the others remember it.

        A large fleet's readings never cease; they are painted with the second, since no machine reports oftener.
        """
        now = self.clock.monotonic()
        waits = self.model.only_readings and self.model.large and not second
        if self.paused_since is not None or waits:
            return
        topics = self.model.take_dirty()
        self._slow |= topics
        slow: frozenset[str] = frozenset()
        if now - self._drew_at >= SLOW_PULSE_S:
            slow, self._drew_at = frozenset(self._slow), now
            self._slow.clear()
        if not topics and not slow:
            return
        shown = set(self.screen_stack)
        for panel in self._standing():
            if panel not in shown:
                panel.missed(topics)
                continue
            if topics:
                panel.pulse(topics)
            if slow:
                panel.pulse_slowly(slow)

    def tick(self) -> None:
        """A second went by."""
        self.pulse(second=True)
        for screen in self.screen_stack:
            if isinstance(screen, Panel) and screen.is_mounted:
                screen.frame()
                if self.paused_since is None:
                    screen.tick()

    def _standing(self) -> Iterable[Panel]:
        for stack in self._screen_stacks.values():
            yield from (screen for screen in stack if isinstance(screen, Panel) and screen.is_mounted)

    # -- doing things --------------------------------------------------------------------------------------------------

    @property
    def panel(self) -> Panel | None:
        """The panel in front, also when a dialog stands over it."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, Panel)), None)

    async def perform(self, action: Action, arguments: Sequence[str] = ()) -> None:
        """Do an action as its key would, or by name with arguments."""
        from tui.commands import perform

        await perform(self, action, arguments)

    async def show(self, panel: str, key: str) -> None:
        """Bring a panel to the front with the cursor on a row, where it has that row."""
        from tui.screens.panes import Table

        await self.switch_mode(panel)
        for table in self.screen.query(Table):
            if table.move_to_key(key):
                table.focus()
                return

    def show_log(self, about: str) -> None:
        """Bring the log to the front, with only what its filter ``about`` lets through."""
        self.switch_mode("log")

        def narrow() -> None:
            panel = self.panel
            if panel is not None:
                panel.filter_text = about
                panel.apply_filter(about)

        self.call_after_refresh(narrow)

    def say(self, text: str, severity: str = "information", *, keep: bool = False) -> None:
        """The result of the operator's own key, as a note that goes by itself; one at a time unless ``keep``."""
        if not keep:
            self.clear_notifications()
        kind = severity if severity in ("warning", "error") else "information"
        self.notify(text, severity=kind, timeout=KEPT_S if keep else TOAST_S, markup=False)  # type: ignore[arg-type]

    def complain(self, error: Exception) -> None:
        """An error as a sentence and its next step."""
        hint = getattr(error, "hint", "")
        self.say(f"{error}\n{hint}" if hint else str(error), "error")

    def offer_undo(self, text: str, undo: Callable[[], Awaitable[None]]) -> None:
        """Say what was done and take it back if the operator presses undo within five seconds."""
        self._undo = (self.clock.monotonic() + UNDO_S, undo)
        self.clear_notifications()
        self.notify(f"{text}   u undo {UNDO_S:.0f} s", timeout=UNDO_S, markup=False)

    # -- global actions ------------------------------------------------------------------------------------------------

    def action_panel(self, name: str) -> None:
        """Bring a panel to the front; from within one of its details, go back to it."""
        if self.current_mode == name:
            while len(self.screen_stack) > 1:
                self.pop_screen()
        else:
            self.switch_mode(name)

    def action_retreat(self) -> None:
        """Close what is open, one thing at a time; never quits."""
        from tui.screens.front import close_front

        if self.screen.maximized is not None:
            self.screen.minimize()
        elif not close_front(self) and len(self.screen_stack) > 1:
            self.pop_screen()

    def action_command(self) -> None:
        """Open the command bar."""
        from tui.screens.front import open_command

        open_command(self)

    def action_filter(self) -> None:
        """Open the filter bar."""
        from tui.screens.front import open_filter

        open_filter(self)

    def action_drawer(self) -> None:
        """Open or close the newest events."""
        from tui.screens.front import toggle_drawer

        toggle_drawer(self)

    @property
    def drawer_open(self) -> bool:
        """Whether the newest events are shown in the panel in front."""
        return self.panel is not None and bool(self.panel.query("#drawer"))

    def look_at_events(self) -> None:
        """New events in the open drawer."""
        from tui.screens.events import Drawer

        if self.panel is not None:
            self.panel.query_one(Drawer).look()

    def action_help(self) -> None:
        """Show the keys that work here."""
        from tui.screens.help import Help

        if self.panel is not None:
            self.push_screen(Help(self.panel.scene, self.panel.places()))

    def action_row_actions(self) -> None:
        """Choose what to do with the row."""
        from tui.screens.menu import open_menu

        open_menu(self)

    def action_zoom(self) -> None:
        """Give the whole body to the pane with the focus, and back."""
        screen: Screen[Any] = self.screen
        if screen.maximized is not None:
            screen.minimize()
        elif screen.focused is not None:
            screen.maximize(screen.focused)

    def action_pause(self) -> None:
        """Hold the picture still, or let it go on."""
        self.paused_since = None if self.paused_since is not None else self.clock.now()
        self.pulse()
        self.tick()

    def action_copy_row(self, as_json: bool) -> None:
        """Copy the row to the terminal's clipboard (OSC 52), and say what was copied."""
        panel = self.panel
        text = (panel.row_json() if as_json else panel.row_text()) if panel is not None else ""
        if not text:
            self.say("There is nothing to copy here.", "warning")
            return
        if len(text.encode()) > COPY_LIMIT_BYTES:
            self.say("This is too long for the terminal's clipboard (50 kB). Mark fewer rows.", "warning")
            return
        self.copy_to_clipboard(text)
        lines = text.splitlines()
        named = f"{panel.row_name()} as JSON" if as_json and panel is not None else lines[0]
        self.say(f"copied {named if len(lines) == 1 or as_json else f'{len(lines)} lines: {lines[0]}'}"[:80])

    async def action_undo(self) -> None:
        """Take the last step back while its note is shown."""
        if self._undo is None or self.clock.monotonic() > self._undo[0]:
            self.say("There is nothing to undo.")
            return
        undo, self._undo = self._undo[1], None
        self.clear_notifications()
        await undo()

    async def action_theme(self, name: str = "") -> None:
        """Change the colours at once, and keep them for the next start."""
        from tui.screens.settings import choose_theme

        await choose_theme(self, name)

    def action_interrupt(self) -> None:
        """Ctrl+c ends nothing by surprise."""
        self.say("q quits the console; machines and engine go on.")

    def action_leave(self) -> None:
        """Quit; ask once while something that was started here runs."""
        running = [
            operation
            for operation in (self.model.state.operations.get(id) for id in self.started)
            if operation is not None and operation.state == "running"
        ]
        if not running:
            self.exit(0)
            return
        from tui.screens.confirm import Question

        what = ", ".join(
            f"{operation.kind} {operation.workspace or operation.machine or ''}".strip() for operation in running
        )
        question = Question("Quit the console?", [f"Still running: {what}.", "It goes on without the console."], "quit")
        self.push_screen(question, lambda yes: self.exit(0) if yes else None)
