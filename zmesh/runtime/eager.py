"""Starts coroutines at once, and makes tasks only of those that wait.

A handler starts at once, in the callback that read the message, and runs until its first real wait; only then does it
become a
task. A handler that does not wait so costs one coroutine instead of a task (110 ns against 2 us), and messages of one
sender
are started in order. While it runs eagerly the handler must find itself inside a task all the same
(``asyncio.timeout`` asks
for the current one), so a *spare* task, made beforehand, is declared current; it is the one that carries on if the
handler waits.
``asyncio`` documents ``_enter_task`` and ``_leave_task`` for such executors ("Extending asyncio").
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from typing import Any, Final

__all__ = ["EagerStarter"]

logger = logging.getLogger("zmesh.handlers")

CANCEL_PATIENCE_S: Final = 5.0  # a handler may wait for what waits for this, or not heed its cancellation


class _Carrier(Coroutine[Any, Any, None]):
    """What a spare task runs: the coroutine that it is handed, from where that has got to.

    A class and not ``async def``, because a task that is cancelled before its first step throws into a coroutine that
    has not begun, where none could catch it: the handler would be dropped without a word.
    """

    __slots__ = ("_coroutine", "_handoff", "_is_yielded", "_yielded")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handoff: asyncio.Future[None] = loop.create_future()
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._yielded: Any = None
        self._is_yielded = True  # whether the task has been given what the coroutine yielded last

    def take_over(self, coroutine: Coroutine[Any, Any, None], yielded: object) -> None:
        """Continue ``coroutine``, which has just yielded ``yielded`` to whoever stepped it."""
        self._coroutine, self._yielded, self._is_yielded = coroutine, yielded, False
        if not self._handoff.done():
            self._handoff.set_result(None)

    def send(self, value: None) -> object:
        """A step of the task."""
        if self._coroutine is None:
            self._handoff._asyncio_future_blocking = True
            return self._handoff
        if not self._is_yielded:
            self._is_yielded = True
            return self._yielded
        return self._coroutine.send(value)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> object:
        """The task was cancelled, or what it waited for failed."""
        if self._coroutine is None:
            raise error
        if not self._is_yielded and self._yielded is not None and self._yielded.cancel():
            # Cancelled while it ran eagerly: as in any task, what it waits for first is cancelled, and tells it.
            return self.send(None)
        self._is_yielded = True
        return self._coroutine.throw(error)

    def close(self) -> None:
        """The task is forgotten."""
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("a carrier is for a task, and is not awaited")


class SpareTask:
    """A real task that waits to take over a coroutine somebody else has started."""

    __slots__ = ("carrier", "context", "pristine", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.carrier = _Carrier(loop)
        self.context = contextvars.copy_context()
        self.pristine = self.context.copy()  # as long as nothing is set, comparing the two is comparing two pointers
        self.task = loop.create_task(self.carrier, context=self.context)


class EagerStarter:
    """Starts handlers for all mailboxes of a node."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare: SpareTask | None = None
        self._running: dict[asyncio.Task[None], None] = {}  # in order: a simulation repeats itself
        self.call_soon = loop.call_soon

    def step(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Run a coroutine to its end, or to its first wait; whether it ended. If not, a task goes on with it."""
        spare = self._spare
        if spare is None or spare.task.done():
            spare = self._spare = SpareTask(self._loop)
        _enter_task(self._loop, spare.task)
        try:
            yielded = spare.context.run(coroutine.send, None)
        except StopIteration:
            if spare.task.cancelling() or spare.context != spare.pristine:
                # The coroutine asked for its own cancellation, or set context variables: neither is the next one's.
                self._spare = None
                spare.task.cancel()
            return True
        finally:
            _leave_task(self._loop, spare.task)
        self._spare = None
        self._running[spare.task] = None
        spare.task.add_done_callback(self._running.pop)
        spare.carrier.take_over(coroutine, yielded)
        return False

    async def close(self, sparing: asyncio.Task[Any] | None) -> None:
        """Cancel handlers that still wait, but for the one that is ending the node and waits for this."""
        tasks = [*self._running, *([self._spare.task] if self._spare is not None else [])]
        self._spare = None
        tasks = [task for task in tasks if task is not sparing]
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CANCEL_PATIENCE_S)
            if late:
                logger.warning("%d handlers have been cancelled and go on: left behind", len(late))
