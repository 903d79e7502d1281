"""What is left of dead programs: coroutines that are suspended, and would run their ``finally`` when collected.

A killed program runs no further. Python, however, closes a coroutine that it collects, and ``finally`` blocks in it
may await something, which is an error then, or ask for a loop, and be given one of the real world. So they are closed
deliberately, when their world is over and nothing that they do can matter.
"""

from __future__ import annotations

import asyncio
from asyncio.events import _set_running_loop
from collections.abc import Iterable
from types import CoroutineType
from typing import Any, Final

__all__ = ["bury", "close_for_good"]

MAX_WAITS: Final = 1000  # in the ``finally`` blocks of one coroutine


def close_for_good(coroutine: Any) -> None:
    """Close a coroutine, however often it waits on its way out: what it waits for first, else that stays suspended."""
    for _ in range(MAX_WAITS):
        inner = getattr(coroutine, "cr_await", None)
        if isinstance(inner, CoroutineType):
            close_for_good(inner)
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001, S112  # whatever it does without its loop, nobody is there to be told
            continue
        return


def bury(loop: asyncio.AbstractEventLoop, tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Close what these tasks of a closed loop run."""
    before = asyncio._get_running_loop()
    _set_running_loop(loop)
    try:
        for task in tasks:
            close_for_good(task.get_coro())
    finally:
        _set_running_loop(before)
