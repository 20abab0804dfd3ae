"""One line of typing. Its one rule: it takes only the keys that typing needs and leaves the terminal's own alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class Line(Input, inherit_bindings=False):
    """An input of one line with a history and completion; enter says `Done`, escape says `Left`.

    Its keys are the plain editing keys of every line editor; they are not actions of the console and cannot be rebound.
    """

    DEFAULT_CSS = """
    Line { height: 1; border: none; padding: 0; background: $panel; color: $foreground; }
    Line:focus { border: none; background-tint: $foreground 0%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "cursor_left", show=False),
        Binding("right", "cursor_right", show=False),
        Binding("ctrl+left", "cursor_left_word", show=False),
        Binding("ctrl+right", "cursor_right_word", show=False),
        Binding("home", "home", show=False),
        Binding("end,ctrl+e", "end", show=False),
        Binding("backspace", "delete_left", show=False),
        Binding("delete", "delete_right", show=False),
        Binding("ctrl+w", "delete_left_word", show=False),
        Binding("ctrl+u", "delete_left_all", show=False),
        Binding("enter", "submit", show=False),
        Binding("escape", "leave", show=False),
        Binding("tab", "complete", show=False),
        Binding("up", "recall(-1)", show=False),
        Binding("down", "recall(1)", show=False),
    ]

    class Left(Message):
        """Escape: what was typed is not wanted."""

        def __init__(self, line: Line) -> None:
            super().__init__()
            self.line = line

        @property
        def control(self) -> Line:
            """The line, for selectors in handlers."""
            return self.line

    def __init__(
        self,
        *,
        value: str = "",
        placeholder: str = "",
        history: Sequence[str] = (),
        complete: Callable[[str], Sequence[str]] | None = None,
        id: str | None = None,
    ) -> None:
        super().__init__(value=value, placeholder=placeholder, id=id, compact=True, select_on_focus=False)
        self.history = list(history)
        self._complete = complete
        self._recalled = len(self.history)
        self._candidates: list[str] = []

    def on_mount(self) -> None:
        """No blinking: an idle screen sends nothing."""
        self.cursor_blink = False

    def action_leave(self) -> None:
        """Leave without an answer."""
        self.post_message(self.Left(self))

    def action_complete(self) -> None:
        """Complete to the longest common start, or to the next candidate when tab is pressed again."""
        if self._complete is None:
            return
        if self.value in self._candidates:
            at = self._candidates.index(self.value) + 1
            self._set(self._candidates[at % len(self._candidates)])
            return
        found = list(self._complete(self.value))
        self._candidates = found if len(found) > 1 else []
        if len(found) == 1:
            self._set(found[0])
        elif found:
            common = _common_start(found)
            self._set(common if len(common) > len(self.value) else found[0])

    def action_recall(self, step: int) -> None:
        """Go through what was typed before."""
        at = max(0, min(len(self.history), self._recalled + step))
        if at != self._recalled:
            self._recalled = at
            self._set(self.history[at] if at < len(self.history) else "")

    def _set(self, value: str) -> None:
        self.value = value
        self.cursor_position = len(value)


def _common_start(words: Sequence[str]) -> str:
    first, last = min(words), max(words)
    for index, letter in enumerate(first):
        if index >= len(last) or last[index] != letter:
            return first[:index]
    return first
