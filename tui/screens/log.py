"""Panel 0: the journal of facts. One rule: a fact is shown once, in the order in which it was.

`/` keeps the matching facts; `&` shows the others again, with the matches marked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import BindingType

from core.domain.errors import UnderstudyError
from core.domain.events import Fact
from tui import filters, subjects
from tui.actions import LOG
from tui.bindings import bindings
from tui.render import events
from tui.screens.base import Panel
from tui.widgets.logview import LogLine, LogView, log_line

BEFORE = 2_000
"""Facts asked of the journal when the panel opens; older ones are the command line's."""


class LogPane(LogView):
    """A log view with the keys of logs."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(LOG)
    place = LOG


class JournalPane(LogPane):
    """The journal's view: which facts are hidden is decided by the panel's filter, not by a text."""

    def action_only_matches(self) -> None:
        panel = self.screen
        if isinstance(panel, Log):
            panel.hiding = not panel.hiding
            panel.fill()


class Log(Panel):
    """The journal."""

    scene = "log"
    topics = frozenset({"events", "connection"})

    def __init__(self) -> None:
        super().__init__()
        self.facts: list[Fact] = []
        self.filter = filters.EVERYTHING
        self.hiding = True
        self._shown = 0
        self._newest = 0

    def body(self) -> ComposeResult:
        view = JournalPane(clock=self.console.clock.now, id="journal", classes="pane")
        view.times = "clock"
        yield view

    @property
    def view(self) -> JournalPane:
        return self.query_one("#journal", JournalPane)

    def on_mount(self) -> None:
        super().on_mount()
        self.view.focus()
        self.run_worker(self._before(), group="journal", exclusive=True)

    async def _before(self) -> None:
        """The facts from before this console was opened, once."""
        try:
            page = await self.console.engine.journal(limit=-BEFORE)
        except UnderstudyError:
            return  # the placeholder says how the engine stands; the stream brings what is new
        known = {fact.seq for fact in self.facts}
        self.facts = sorted([*self.facts, *(f for f in page.facts if f.seq not in known)], key=lambda f: f.seq)
        self._newest = max([self._newest, *(f.seq for f in page.facts)])
        self.fill()

    # -- lines ---------------------------------------------------------------------------------------------------------

    def line(self, fact: Fact) -> LogLine:
        marked = not self.filter.empty and not self.hiding and self._matches(fact)
        line = events.untimed(fact, self.glyphs)
        return log_line([(text, f"{role} reverse".strip()) for text, role in line] if marked else line, fact.at)

    def _matches(self, fact: Fact) -> bool:
        return self.filter.empty or self.filter(subjects.event(fact, self.now))

    def fill(self) -> None:
        """All lines anew: the filter changed."""
        view = self.view
        view.clear()
        self._shown = 0
        self.add(self.facts)

    def add(self, facts: Iterable[Fact]) -> None:
        """More facts at the end."""
        shown = [fact for fact in facts if not self.hiding or self._matches(fact)]
        self._shown += len(shown)
        self.view.append(map(self.line, shown))
        self._titles()

    def _titles(self) -> None:
        view = self.view
        view.placeholder = self.instead(
            "the journal", empty="Nothing has happened yet.", next_step="What happens is kept for ever."
        )
        following = (
            "following" if view.following else f"{view.unseen} new below, G" if view.unseen else "held, G follows"
        )
        lab = ", lab" if self.model.lab else ""
        view.border_title = f"journal{lab}, {len(self.facts):,} facts"
        view.border_subtitle = following
        self.count_filter(self._shown, len(self.facts), self.filter.problem)
        view.refresh()

    # -- the panel's own -----------------------------------------------------------------------------------------------

    def changed(self, topics: frozenset[str]) -> None:
        if "events" in topics:
            new = [fact for fact in self.model.events if fact.seq > self._newest]
            if new:
                self._newest = new[-1].seq
                self.facts += new
                self.add(new)
            self.model.seen_events()
        self._titles()

    def on_log_view_moved(self) -> None:
        self._titles()

    def apply_filter(self, text: str) -> None:
        self.filter = filters.parse(text, filters.EVENTS)
        words = [word for word in text.split() if word.isalnum()]
        self.view.search(words[-1] if words else "")
        self.fill()

    def row_text(self) -> str:
        return self.view.shown_text()

    def row_json(self) -> str:
        """The facts that match, newest last, as far as a clipboard takes them."""
        shown = [fact for fact in self.facts if self._matches(fact)]
        return "\n".join(msgspec.json.encode(fact).decode() for fact in shown[-100:])
