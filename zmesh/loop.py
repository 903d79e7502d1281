"""Runs a program on the fastest event loop that is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["event_loop_name", "run"]

T = TypeVar("T")

try:
    import uvloop
except ImportError:  # an extra: zmesh-agents[uvloop]
    uvloop = None


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, on uvloop where it is installed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop is not None else None) as runner:
        return runner.run(main)


def event_loop_name() -> str:
    """``"uvloop"`` or ``"asyncio"``: what ``run`` uses."""
    return "uvloop" if uvloop is not None else "asyncio"
