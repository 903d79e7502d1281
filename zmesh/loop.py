"""Runs a program on the fastest event loop that is installed, and what must not be left half done to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["event_loop_name", "finished", "run"]

T = TypeVar("T")


def _new_event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # an extra: zmesh-agents[uvloop]
        return None
    return uvloop.new_event_loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, on uvloop where it is installed."""
    with asyncio.Runner(loop_factory=_new_event_loop()) as runner:
        return runner.run(main)


def event_loop_name() -> str:
    """``"uvloop"`` or ``"asyncio"``: what ``run`` uses."""
    return "asyncio" if _new_event_loop() is None else "uvloop"


async def finished(work: Awaitable[T]) -> T:
    """The result of something that must not be left half done: who is cancelled while it runs waits for its end."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
