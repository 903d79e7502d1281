"""An asyncio event loop without a clock or a selector of its own: simulated time, and nothing but callbacks.

What runs on it is ordinary asyncio: tasks, ``sleep``, ``timeout``, queues, locks, task groups. What would reach out of
the simulation (sockets, subprocesses, signals) is refused. ``run_in_executor``, and so ``to_thread``, calls the
function at once. Whoever owns the loop calls ``run_ready`` after each input, and again at ``next_deadline``.

Tasks and futures are numbered and hash to their numbers: asyncio keeps them in sets (a ``TaskGroup`` cancels its tasks
in the order of one), and their addresses, which they would hash to, differ from process to process.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import sys
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, TypeVarTuple

from zmesh.errors import UsageError
from zmesh.testing.burial import close_for_good

__all__ = ["VirtualLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SPIN_LIMIT: Final = 100_000  # callbacks at one instant: a coroutine that never waits for time would stop the world
if TYPE_CHECKING:
    _Loop = asyncio.BaseEventLoop  # in which typeshed finds nothing abstract; at run time nothing is
else:
    _Loop = asyncio.AbstractEventLoop


class _Call(asyncio.Handle):
    """A callback to be run; asyncio's own, with a way to run it that is not private."""

    __slots__ = ("call",)

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], loop: VirtualLoop, context: contextvars.Context
    ) -> None:
        super().__init__(callback, args, loop, context)
        self.call = (context, callback, args)


class _Timer(asyncio.TimerHandle):
    __slots__ = ("call",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: VirtualLoop,
        context: contextvars.Context,
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.call = (context, callback, args)


class _Future(asyncio.Future[T]):
    def __init__(self, *, loop: VirtualLoop) -> None:
        self._number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task[T]):
    def __init__(self, coro: Coroutine[Any, Any, T], *, loop: VirtualLoop, **options: Any) -> None:
        self._number = loop.next_number()
        options["name"] = options.get("name") or f"Task-{self._number}"  # else asyncio counts for the whole process
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(_Loop):
    """``clock`` says what time it is; ``failed`` is told of exceptions that nobody has handled."""

    def __init__(self, clock: Callable[[], float], failed: Callable[[str, BaseException | None], None]) -> None:
        self.next_number = itertools.count(1).__next__
        self.context = contextvars.copy_context()  # of what is called from outside
        self._clock = clock
        self._failed = failed
        self._ready: deque[_Call | _Timer] = deque()
        self._tasks: dict[asyncio.Task[Any], None] = {}  # those that are not done
        self._timers: list[tuple[float, int, _Timer]] = []
        self._exception_handler: Callable[..., object] | None = None
        self._task_factory: Callable[..., Any] | None = None
        self._is_running = False
        self._is_closed = False
        self._is_debug = False

    # -- for its owner -------------------------------------------------------------------------------------------------

    def run_ready(self) -> None:
        """Run every callback that is due, and those that they make due, until all wait for something."""
        before, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        _set_running_loop(self)
        sys.set_asyncgen_hooks(finalizer=self._finish_generator)
        self._is_running = True
        try:
            for _ in range(SPIN_LIMIT):
                if not self._run_next():
                    return
        finally:
            self._is_running = False
            sys.set_asyncgen_hooks(*hooks)
            _set_running_loop(before)
        self._failed(f"{SPIN_LIMIT} callbacks at {self.time()} s: something never waits for time to pass", None)

    def next_deadline(self) -> float | None:
        """When ``run_ready`` has something to do."""
        if self._ready:
            return self._clock()
        while self._timers and self._timers[0][2].cancelled():
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Those that are not done, in the order in which they were made."""
        return list(self._tasks)

    def _run_next(self) -> bool:
        if self._is_closed:
            return False
        if not self._ready:
            self._take_due()
        if not self._ready:
            return False
        handle = self._ready.popleft()
        if not handle.cancelled():
            context, callback, args = handle.call
            try:
                context.run(callback, *args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except Exception as error:  # noqa: BLE001 - as in asyncio: whatever a callback raises goes to the handler
                self.call_exception_handler({"message": f"exception in {callback!r}", "exception": error})
        return True

    def _finish_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """One that was not read to its end: let it run its ``finally``."""
        if not self._is_closed:
            self.create_task(generator.aclose())

    def _take_due(self) -> None:
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            self._ready.append(heappop(self._timers)[2])

    # -- callbacks -----------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """The simulated time."""
        return self._clock()

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See asyncio."""
        handle = _Call(callback, args, self, context or self._current_context())
        if not self._is_closed:  # else it is the remains of a dead process that are being collected
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """The same: there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        timer = _Timer(when, callback, args, self, context or self._current_context())
        if not self._is_closed:
            heappush(self._timers, (when, self.next_number(), timer))
        return timer

    def _current_context(self) -> contextvars.Context:
        return contextvars.copy_context() if self._is_running else self.context.copy()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by asyncio; a cancelled timer is dropped when its time comes."""

    # -- tasks and futures ---------------------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return _Future(loop=self)

    def create_task(  # type: ignore[override]  # typeshed also allows a bare generator
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        """See asyncio."""
        options = {"context": context or self._current_context()}
        if self._task_factory is not None:
            task: asyncio.Task[T] = self._task_factory(self, coro, **options)
            if name is not None:
                task.set_name(name)
            return self._hold(task)
        new = self._hold(_Task(coro, loop=self, name=name, **options))
        if self._is_closed:  # a ``finally`` of what is being buried starts something more
            close_for_good(coro)
        return new

    def _hold(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """Or one that waits for what nobody else holds would end whenever the interpreter collects garbage."""
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def set_task_factory(self, factory: Callable[..., Any] | None) -> None:
        """See asyncio."""
        self._task_factory = factory

    def get_task_factory(self) -> Callable[..., Any] | None:
        """See asyncio."""
        return self._task_factory

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Call the function now: it takes no simulated time."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is for whoever awaits the future
            future.set_exception(error)
        return future

    # -- errors, state -------------------------------------------------------------------------------------------------

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody has handled: to the handler that was set, else to the loop's owner."""
        if self._is_closed or str(context.get("message", "")).startswith("Task was destroyed"):
            return  # when garbage is collected, nobody knows: it must not matter
        if self._exception_handler is not None:
            self._exception_handler(self, context)
        else:
            self._failed(str(context.get("message", "")), context.get("exception"))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """To the loop's owner."""
        self._failed(str(context.get("message", "")), context.get("exception"))

    def set_exception_handler(self, handler: Callable[..., object] | None) -> None:
        """See asyncio."""
        self._exception_handler = handler

    def get_exception_handler(self) -> Callable[..., object] | None:
        """See asyncio."""
        return self._exception_handler

    def is_running(self) -> bool:
        """Whether callbacks are being run."""
        return self._is_running

    def is_closed(self) -> bool:
        """Whether its process is gone."""
        return self._is_closed

    def close(self) -> None:
        """Nothing runs on it any more, no ``finally`` either: that is what a crash is."""
        self._is_closed = True
        self._ready.clear()
        self._timers.clear()

    def get_debug(self) -> bool:
        """See asyncio."""
        return self._is_debug

    def set_debug(self, enabled: bool) -> None:
        """See asyncio."""
        self._is_debug = enabled

    def _refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        raise UsageError("there is nothing outside a simulation: no sockets, pipes, processes, signals or name lookups")


for _name in vars(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in vars(VirtualLoop):
        setattr(VirtualLoop, _name, VirtualLoop._refuse)
