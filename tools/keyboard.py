"""Standard input without blocking the loop: a thread that waits for bytes, and a terminal mode for the line editor.

``loop.add_reader`` will not do: it refuses regular files and /dev/null, and uvloop's makes the descriptor
non-blocking, which a terminal shares with the shell and with standard output.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO

from zmesh.tools.console import Console
from zmesh.tools.lineeditor import END_OF_INPUT, LineEditor

__all__ = ["Lines", "is_interactive", "piped_lines", "restore_terminals", "typed_lines"]

READ_BYTES = 65536
Lines = asyncio.Queue[str]

_changed: dict[int, list[Any]] = {}  # the modes of the terminals we changed, by descriptor: a process has one terminal


def is_interactive(stdin: TextIO, stdout: TextIO) -> bool:
    """Whether somebody can type at us and see it: a terminal both ways, and we are its foreground job."""
    if not (stdin.isatty() and stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return _in_foreground(stdin.fileno())


@contextlib.contextmanager
def piped_lines(descriptor: int) -> Iterator[Lines]:
    """A queue of the lines of a pipe or file. Its end ends nothing else."""
    lines: Lines = asyncio.Queue()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""

    def receive(data: bytes) -> None:
        nonlocal rest
        *whole, rest = (rest + decoder.decode(data, final=not data)).split("\n")
        for line in whole if data else [*whole, rest]:
            lines.put_nowait(line)

    with _reading(descriptor, receive):
        yield lines


@contextlib.contextmanager
def typed_lines(descriptor: int, console: Console, prompt: str) -> Iterator[Lines]:
    """A queue of the lines typed at the prompt; Ctrl-D on an empty row is the line ``quit``."""
    lines: Lines = asyncio.Queue()
    editor = LineEditor(prompt)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def receive(data: bytes) -> None:
        for line in editor.feed(decoder.decode(data)) if data else [END_OF_INPUT]:
            console.lines([] if line == END_OF_INPUT else [f"{prompt}{line}"])
            lines.put_nowait("quit" if line == END_OF_INPUT else line)
        console.redraw()

    with _cbreak(descriptor, console.redraw), _shown(console, editor), _reading(descriptor, receive):
        yield lines


@contextlib.contextmanager
def _shown(console: Console, editor: LineEditor) -> Iterator[None]:
    console.attach(editor)
    try:
        yield
    finally:
        console.attach(None)


@contextlib.contextmanager
def _reading(descriptor: int, receive: Callable[[bytes], None]) -> Iterator[None]:
    """Call ``receive`` on the loop with what arrives, and with ``b""`` at the end."""
    loop = asyncio.get_running_loop()
    wake_reader, wake_writer = os.pipe()

    def hand_over() -> None:
        while data := _read(descriptor, wake_reader):
            loop.call_soon_threadsafe(receive, data)
        if data is not None:
            loop.call_soon_threadsafe(receive, b"")

    thread = threading.Thread(target=hand_over, name="zmesh-keyboard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(wake_writer)
        thread.join()
        os.close(wake_reader)


def _read(descriptor: int, wake: int) -> bytes | None:
    """The next bytes, ``b""`` at the end, None when woken to stop."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(wake, select.POLLIN)
    if any(ready == wake for ready, _ in poll.poll()):
        return None
    try:
        return os.read(descriptor, READ_BYTES)
    except OSError:  # EIO: the terminal hung up, which is the end of what can be typed
        return b""


@contextlib.contextmanager
def _cbreak(descriptor: int, redraw: Callable[[], None]) -> Iterator[None]:
    """Characters as they are typed and no echo; Ctrl-C and Ctrl-Z go on working, and ``fg`` brings the row back."""
    _changed[descriptor] = termios.tcgetattr(descriptor)

    def enter() -> None:
        if _in_foreground(descriptor):
            tty.setcbreak(descriptor, termios.TCSADRAIN)  # not TCSAFLUSH, which forgets what was typed ahead

    def resumed(_signum: int, _frame: FrameType | None) -> None:
        enter()
        redraw()

    previous = signal.signal(signal.SIGCONT, resumed)
    enter()
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, previous)
        restore_terminals()


def restore_terminals() -> None:
    """Put every terminal back into the mode we found it in; also for an end that runs no ``finally``."""
    while _changed:
        descriptor, attributes = _changed.popitem()
        if _in_foreground(descriptor):
            with contextlib.suppress(termios.error):  # it hung up: there is nothing left to restore
                termios.tcsetattr(descriptor, termios.TCSADRAIN, attributes)


def _in_foreground(descriptor: int) -> bool:
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:  # a terminal that does not control us, or is gone: touching its mode could stop us with SIGTTOU
        return False
