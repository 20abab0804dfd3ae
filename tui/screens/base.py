"""What every panel is made of: top bar, tabs, banner, body, filter chip, key line. Its one rule: a panel that is not in
front does no work; on its return it paints once what it missed.

A subclass gives ``scene``, ``topics`` and ``body()``, and overrides `changed` to repaint what a change of the model
touched. It reads ``self.model`` and asks ``self.console.engine``; it keeps no copy of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widget import Widget

from tui.actions import EVERYWHERE, LIST, LOG, SCENES, Action, shown
from tui.model import TOPICS, Model
from tui.render import conditions, status
from tui.render.cells import Glyphs, Line, clock
from tui.widgets.filterbar import FilterChip
from tui.widgets.keyline import Hint, KeyLine
from tui.widgets.status import Item, StatusBar
from tui.widgets.styles import Painted, Span
from tui.widgets.tabs import TabLine

if TYPE_CHECKING:
    from tui.app import Console

NARROW = 100
"""Below so many columns the short forms are used; the same figure is the app's breakpoint."""


FRAME_TOPICS = TOPICS - {"readings", "markets", "hosts"}
"""What the lines at the top and the keys at the bottom depend on."""


class Banner(Painted):
    """One line over the body, there only while it says something."""

    DEFAULT_CSS = "Banner { height: 1; display: none; background: $panel; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._line: tuple[Span, ...] = ()

    def show(self, line: Sequence[Span]) -> None:
        """Show this line; none takes the banner away."""
        if tuple(line) != self._line:
            self._line = tuple(line)
            self.display = bool(line)
            self.refresh()

    def spans(self, y: int, width: int) -> Iterable[Span]:
        """The line."""
        del y, width
        return self._line


class Panel(Screen[None], inherit_bindings=False):
    """A screen of the console."""

    scene: ClassVar[str] = "overview"
    """Its name in `tui.actions.SCENES`: which keys work here."""
    tab: ClassVar[str] = ""
    """The tab that is marked; empty: the scene's own name."""
    topics: ClassVar[frozenset[str]] = TOPICS - {"latency"}
    """Which changes of the model concern it; others do not wake it."""
    BINDINGS: ClassVar[list[BindingType]] = []
    ALLOW_IN_MAXIMIZED_VIEW = "#head, #foot"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.filter_text = ""
        self._missed: set[str] = set()
        self._slow_missed: set[str] = set()

    # -- what a subclass gives -----------------------------------------------------------------------------------------

    def body(self) -> ComposeResult:
        """The panes between the lines at the top and those at the bottom."""
        return ()

    def changed(self, topics: frozenset[str]) -> None:
        """The model changed in these topics: repaint what they touch. At most at 5 Hz, at once for facts."""

    def changed_slowly(self, topics: frozenset[str]) -> None:
        """As `changed`, at most twice a second: for curves."""

    def tick(self) -> None:
        """A second went by: repaint ages and clocks."""

    def apply_filter(self, text: str) -> None:
        """Show only the rows that match; the empty text shows all. Says how many by `count_filter`."""

    def row_text(self) -> str:
        """The row under the cursor, or the marked ones, as text for the clipboard; empty where there is none."""
        return ""

    def row_json(self) -> str:
        """The same as JSON, one document a line."""
        return ""

    def row_name(self) -> str:
        """What the cursor is on, as the menu of actions calls it."""
        return ""

    def offered(self, action: Action) -> bool:
        """Whether the action makes sense here and now; what does not is left out of the key line and the menus."""
        return not action.lab_only or self.model.lab

    # -- what a subclass uses ------------------------------------------------------------------------------------------

    @property
    def console(self) -> Console:
        """The app."""
        return cast("Console", self.app)

    @property
    def model(self) -> Model:
        """What the engine said."""
        return self.console.model

    @property
    def glyphs(self) -> Glyphs:
        """The character set in use."""
        return self.console.glyphs

    @property
    def now(self) -> float:
        """Epoch seconds, for ages."""
        return self.console.clock.now()

    def instead(self, what: str, *, empty: str, next_step: str) -> list[Line]:
        """What a table without rows says: loading, failed or empty, whichever is true."""
        connection = self.model.connection
        if connection.state == "gone":
            return conditions.failed(connection.reason, connection.hint, self.glyphs)
        if connection.state == "connecting":
            return conditions.loading(f"asking the engine for {what}", self.now - connection.since, self.glyphs)
        if self.filter_text:
            return conditions.empty(
                "nothing matches the filter", f"/ {self.filter_text}   esc takes it away", self.glyphs
            )
        return conditions.empty(empty, next_step, self.glyphs)

    def count_filter(self, shown_rows: int, all_rows: int, complaint: str = "") -> None:
        """Say on the chip how many rows match, or what is wrong with the filter."""
        if self.is_mounted:
            self.query_one(FilterChip).show(self.filter_text, shown_rows, all_rows, complaint)

    # -- frame ---------------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """The frame around the body."""
        with Vertical(id="head"):
            yield StatusBar(id="top")
            yield TabLine(self.console.tabs, self.active_tab(), id="tabs")
            yield Banner(id="banner")
        with Vertical(id="body"):
            yield from self.body()
        with Vertical(id="foot"):
            yield FilterChip(id="chip")
            yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Paint what is known."""
        self._missed |= TOPICS
        self._slow_missed |= TOPICS

    def on_screen_resume(self) -> None:
        """In front again: paint once what was missed."""
        self.pulse(frozenset())
        self.pulse_slowly(frozenset())
        self.frame()
        self.tick()

    def missed(self, topics: frozenset[str]) -> None:
        """Something changed while this panel was not in front."""
        self._missed |= topics
        self._slow_missed |= topics

    def pulse(self, topics: frozenset[str]) -> None:
        """Pass on the changes that concern this panel."""
        concern = (topics | self._missed) & self.topics
        self._slow_missed |= topics
        self._missed.clear()
        if topics & FRAME_TOPICS:
            self.frame()
        if "events" in topics and self.console.drawer_open:
            self.console.look_at_events()
        if concern:
            self.changed(concern)

    def pulse_slowly(self, topics: frozenset[str]) -> None:
        """Pass on the changes of the last half second."""
        concern = (topics | self._slow_missed) & self.topics
        self._slow_missed.clear()
        if concern:
            self.changed_slowly(concern)

    def frame(self) -> None:
        """Bring the lines at the top and at the bottom up to date."""
        if not self.is_mounted:
            return
        g, width = self.glyphs, self.app.size.width
        right: Line = [(clock(self.now, g) if width >= NARROW else clock(self.now, g)[:5], "muted")]
        self.query_one("#top", StatusBar).show(self._status(short=width < NARROW), right)
        self.query_one("#banner", Banner).show(self._banner())
        self.query_one("#keys", KeyLine).show(self.hints())

    def _status(self, *, short: bool) -> list[Item]:
        model, g = self.model, self.glyphs
        items = [Item((("Understudy", "title bold"),), 4)]
        if model.lab:
            items.append(Item((("lab", "warn bold"),), 0))
        items.append(Item(tuple(status.engine(model.connection, g, short=short)), 1))
        if model.connection.state in ("live", "stale"):
            spent = model.spent(self.now)
            items.append(Item(tuple(status.burn(spent, g)), 0))
            items.append(Item(tuple(status.month(spent, model.state.budget, g)), 3))
        items.append(Item(tuple(status.at_risk(model.at_risk, g)), 0))
        items.append(Item(tuple(status.unread(model.unread)), 2))
        return items

    def _banner(self) -> Line:
        model, g, size = self.model, self.glyphs, self.app.size
        if self.console.paused_since is not None:
            return conditions.paused(self.console.paused_since, self.now, g)
        if model.connection.state == "stale":
            hint = model.connection.hint if size.width >= NARROW else ""
            return conditions.stale(model.connection.since, self.now, model.connection.reason, g, hint=hint)
        if size.width < 60 or size.height < 15:
            return conditions.too_small(size.width, size.height)
        return []

    def active_tab(self) -> str:
        """The panel that is marked on the tab line."""
        return self.tab or self.scene

    def places(self) -> tuple[str, ...]:
        """Where a key is listened to now: those of the scene, with the list's or the log's by what has the focus."""
        focused = self.focused
        chain: list[object] = list(focused.ancestors_with_self) if focused is not None else []
        in_log = any(getattr(node, "place", "") == LOG for node in chain)
        scene = SCENES[self.scene]
        if in_log:
            return (*(place for place in scene if place not in (LIST, LOG)), LOG)
        return scene

    def hints(self) -> list[Hint]:
        """The key line for this moment."""
        registry = self.console.registry
        own = [place for place in self.places() if place != EVERYWHERE]
        ranked = sorted(
            (
                action
                for action in registry.at((*own, EVERYWHERE))
                if action.rank and action.keys and self.offered(action)
            ),
            key=lambda action: action.rank,
        )
        stays = {"help": 0, "quit": 1}  # whoever has these two can find the rest
        return [Hint(a.id, shown(a.keys[0]), a.label, stays.get(a.id, a.rank)) for a in ranked]

    def on_descendant_focus(self) -> None:
        """Another pane, other keys."""
        self.frame()

    def on_tab_line_chosen(self, message: TabLine.Chosen) -> None:
        """A click on a tab."""
        self.console.action_panel(message.tab)

    async def on_key_line_pressed(self, message: KeyLine.Pressed) -> None:
        """A click on a key."""
        await self.console.perform(self.console.registry.get(message.action))

    def panes(self) -> list[Widget]:
        """The panes that can take the focus, in order."""
        return [widget for widget in self.focus_chain if not isinstance(widget, Screen)]


class Opening(Panel):
    """The frame with nothing in it, for the moment before the first panel is there."""

    def __init__(self, tab: str) -> None:
        super().__init__()
        self.first = tab

    def active_tab(self) -> str:
        """The panel that is coming."""
        return self.first
