"""A line editor without a terminal: characters in, finished lines out, and what the row should look like now.

The prompt has to live with event lines that appear while somebody types. The terminal's own line editing cannot be
redrawn by us, and ``readline`` wants a thread that blocks in ``input()`` and cannot be stopped; hence these keys:
left, right, home, end, up, down, backspace, delete, Ctrl-A, -E, -U, -K, -W, -D.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

__all__ = ["END_OF_INPUT", "LineEditor"]

END_OF_INPUT = "\x04"  # what ``feed`` hands out for Ctrl-D on an empty line
HISTORY_LINES = 200

_KEYS = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|\x1b[^\[O]|[^\x1b]", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(\[[0-9;]*|O)?\Z")


class LineEditor:
    """One editable row and the history behind it."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._before = ""  # the row, left of the cursor
        self._after = ""
        self._history: list[str] = []
        self._browsing = 0  # how many lines back in the history; 0: the row being typed
        self._unread = ""  # the start of an escape sequence whose rest has not come
        self._keys: dict[str, Callable[[], None]] = {
            **dict.fromkeys(("\x7f", "\x08"), self._backspace),
            **dict.fromkeys(("\x01", "\x1b[H", "\x1b[1~", "\x1bOH"), self._home),
            **dict.fromkeys(("\x05", "\x1b[F", "\x1b[4~", "\x1bOF"), self._end),
            **dict.fromkeys(("\x1b[D", "\x1bOD", "\x02"), self._left),
            **dict.fromkeys(("\x1b[C", "\x1bOC", "\x06"), self._right),
            **dict.fromkeys(("\x1b[A", "\x1bOA", "\x10"), self._older),
            **dict.fromkeys(("\x1b[B", "\x1bOB", "\x0e"), self._newer),
            "\x1b[3~": self._delete,
            "\x15": self._erase_before,
            "\x0b": self._erase_after,
            "\x17": self._erase_word,
        }

    def feed(self, characters: str) -> list[str]:
        """Take what was typed; the lines it finished, ``END_OF_INPUT`` for Ctrl-D on an empty row."""
        typed = self._unread + characters
        unfinished = _UNFINISHED.search(typed)
        self._unread = unfinished[0] if unfinished else ""
        lines = [self._press(key) for key in _KEYS.findall(typed[: len(typed) - len(self._unread)])]
        return [line for line in lines if line is not None]

    def view(self, columns: int) -> str:
        """The row for a terminal of this width, and the movement that puts the cursor in its place."""
        room = max(1, columns - 1 - cells(self._prompt))  # the last column is the cursor's
        before = fitting(self._before, room, keep_end=True)
        after = fitting(self._after, room - cells(before), keep_end=False)
        back = f"\x1b[{cells(after)}D" if after else ""
        return f"\r\x1b[K{self._prompt}{before}{after}{back}"

    def _press(self, key: str) -> str | None:
        if key in "\r\n":
            return self._finish()
        if key == END_OF_INPUT:
            if not self._before + self._after:
                return END_OF_INPUT
            self._delete()
        elif key in self._keys:
            self._keys[key]()
        elif key.isprintable():
            self._before += key
        return None

    def _finish(self) -> str:
        line = self._before + self._after
        self._show("")
        self._browsing = 0
        if line.strip() and line not in self._history[-1:]:
            self._history = [*self._history, line][-HISTORY_LINES:]
        return line

    def _show(self, line: str) -> None:
        self._before, self._after = line, ""

    def _backspace(self) -> None:
        self._before = self._before[:-1]

    def _delete(self) -> None:
        self._after = self._after[1:]

    def _home(self) -> None:
        self._before, self._after = "", self._before + self._after

    def _end(self) -> None:
        self._show(self._before + self._after)

    def _left(self) -> None:
        self._before, self._after = self._before[:-1], self._before[-1:] + self._after

    def _right(self) -> None:
        self._before, self._after = self._before + self._after[:1], self._after[1:]

    def _erase_before(self) -> None:
        self._before = ""

    def _erase_after(self) -> None:
        self._after = ""

    def _erase_word(self) -> None:
        self._before = re.sub(r"\S+\s*\Z", "", self._before)

    def _older(self) -> None:
        self._browse(self._browsing + 1)

    def _newer(self) -> None:
        self._browse(self._browsing - 1)

    def _browse(self, back: int) -> None:
        self._browsing = min(max(back, 0), len(self._history))
        self._show(self._history[-self._browsing] if self._browsing else "")


def cells(text: str) -> int:
    """How many terminal columns the text takes."""
    return sum(_width(character) for character in text)


def fitting(text: str, room: int, *, keep_end: bool) -> str:
    """As much of the text's start, or of its end, as fits in ``room`` columns."""
    kept = 0
    for character in reversed(text) if keep_end else text:
        room -= _width(character)
        if room < 0:
            break
        kept += 1
    return text[len(text) - kept :] if keep_end else text[:kept]


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
