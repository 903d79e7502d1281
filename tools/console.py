"""The one writer of standard output: a line per event, above the row that somebody may be typing on.

Log records come from other threads, so the writing is under a lock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from zmesh.model import now_ms
from zmesh.tools.lineeditor import LineEditor
from zmesh.tools.reports import Report, clean

__all__ = ["Console", "ConsoleLogHandler", "logging_to"]

NARROW_COLUMNS = 80  # when the terminal does not say how wide it is


class Console:
    """Writes reports to ``out``. ``lost`` is called, once, when that is not possible any more."""

    def __init__(self, out: TextIO, *, as_json: bool, lost: Callable[[OSError], None]) -> None:
        self.as_json = as_json
        self.loss: OSError | None = None
        self._out = out
        self._lost = lost
        self._editor: LineEditor | None = None
        self._lock = threading.RLock()

    def report(self, report: Report) -> None:
        """Write one event."""
        if self.as_json:
            self._write(json.dumps({"event": report.event, "time_ms": now_ms(), **report.fields}) + "\n")
        elif report.lines:
            now = time.strftime("%H:%M:%S  ") if report.timed else ""
            self.lines([now + line for line in report.lines])

    def lines(self, lines: Sequence[str]) -> None:
        """Write plain lines, escaping what could move a terminal's cursor."""
        self._write("".join(f"{clean(line)}\n" for line in lines))

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        try:
            self._out.buffer.write(data)
            self._out.flush()
        except OSError as error:
            self.loss = error
            self._lost(error)

    def attach(self, editor: LineEditor | None) -> None:
        """Keep this editor's row below everything written from now on; None: no row any more."""
        with self._lock:
            self._editor = editor
            self._write("" if editor is not None else "\r\x1b[K")

    def redraw(self) -> None:
        """Show the editor's row as it is now."""
        self._write("")

    def _write(self, text: str) -> None:
        with self._lock:
            if self.loss is not None:
                return
            try:
                self._out.write(self._with_row(text))
                self._out.flush()
            except OSError as error:  # the reader of our pipe, or our terminal, is gone, or a disk is full
                self.loss = error
                self._lost(error)

    def _with_row(self, text: str) -> str:
        if self._editor is None:
            return text
        return f"\r\x1b[K{text}{self._editor.view(self._columns())}"

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._out.fileno()).columns or NARROW_COLUMNS
        except OSError:
            return NARROW_COLUMNS


class ConsoleLogHandler(logging.Handler):
    """Writes log records through the console, so that they do not land in the middle of the row being typed."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, an exception's traceback included."""
        self._console.lines(self.format(record).splitlines())


@contextlib.contextmanager
def logging_to(console: Console, level: str) -> Iterator[None]:
    """Log to standard error; where that is the console's terminal, through the console."""
    on_its_terminal = sys.stderr.isatty() and sys.stdout.isatty() and not console.as_json
    handler = ConsoleLogHandler(console) if on_its_terminal else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(
        level.upper()
    )  # the root's level does not bind a library that sets its own logger's, as zeroconf does
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
