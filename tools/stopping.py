"""How a program is asked to stop: SIGINT, SIGTERM and SIGHUP leave the mesh first, a second SIGINT does not wait.

The handlers are there before the loop and after it: to close a loop means to wait for its threads, and one of them may
be asking a distant machine to enrol us.

Plain ``signal.signal`` and not ``loop.add_signal_handler``, whose callbacks wait for the loop: the second SIGINT must
work just when a handler hogs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Iterator, Sequence
from types import FrameType
from typing import Any, TypeVar

from zmesh.tools.keyboard import restore_terminals
from zmesh.tools.outcome import ExitCode

__all__ = ["StopRequest", "stop_on_signals"]

ResultT = TypeVar("ResultT")


class StopRequest:
    """Set once somebody wants the program to end."""

    def __init__(self, signums: Sequence[signal.Signals]) -> None:
        self._signums = signums
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()
        self._signum: int | None = None

    def attach(self) -> None:
        """Use the running loop from now on; a signal that came earlier counts."""
        self._loop = asyncio.get_running_loop()
        for signum in self._signums:
            # Our handler stays, but the loop now wakes up for the signal: one that comes just before the loop goes to
            # sleep would otherwise be handled after its next event only.
            self._loop.add_signal_handler(signum, _wake_up)
            signal.signal(signum, self.receive)
        if self._signum is not None:
            self.set()

    @property
    def is_set(self) -> bool:
        """Whether the program is to end."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask the program to end."""
        self._event.set()

    async def wait(self) -> None:
        """Return when the program is to end."""
        await self._event.wait()

    async def unless_set(self, work: Coroutine[Any, Any, ResultT]) -> ResultT | None:
        """The work's result; None, with the work cancelled, when the program is to end first."""
        task = asyncio.ensure_future(work)
        waiting = asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for pending in (task, waiting):
                await cancelled(pending)

    def receive(self, signum: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self._signum is not None and signum == signal.SIGINT:
            restore_terminals()
            os._exit(ExitCode.INTERRUPTED)
        self._signum = signum
        # A signal handler runs between any two bytecodes, so it may not touch the loop's objects itself.
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.set)


def _wake_up() -> None:
    """What the loop does for a signal: it has run ``receive`` on the way here."""


async def cancelled(task: asyncio.Future[Any]) -> None:
    """Cancel the task unless it is done, and wait until it has ended."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """A ``StopRequest`` that the signals set, for as long as the context is open; the loop calls ``attach``."""
    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup, and meant to stay so
        wanted.append(signal.SIGHUP)
    request = StopRequest(wanted)
    previous = {signum: signal.signal(signum, request.receive) for signum in wanted}
    try:
        yield request
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
