"""A test that leaves anything open fails: ZeroMQ contexts, threads, tasks, file descriptors, child processes.

A leak found here is a leak a user would have met after a thousand joins and leaves. What takes a moment to go away
(a thread about to end, a child about to be reaped) is waited for, up to ``GRACE_S``.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop
import zmq
from zmq.utils import garbage

pytest_plugins = ["tests.namespaces"]

GRACE_S = 5.0
POLL_S = 0.01
WATCHED_FILES = ("socket:", "pipe:", "anon_inode:")  # plus regular files below the test's own directory

_contexts: weakref.WeakSet[zmq.Context[zmq.Socket[bytes]]] = weakref.WeakSet()
_abandoned_tasks: list[str] = []


def _remember_contexts() -> None:
    original = zmq.Context.__init__

    def remembering(self: zmq.Context[zmq.Socket[bytes]], *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[call-overload]  # passed through as they came
        _contexts.add(self)

    zmq.Context.__init__ = remembering  # type: ignore[method-assign]  # pyzmq offers no list of its contexts


def _remember_abandoned_tasks() -> None:
    """``asyncio.run`` cancels what is left over without a word; note it down first."""
    original: Callable[[asyncio.AbstractEventLoop], None] = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]  # private

    def remembering(loop: asyncio.AbstractEventLoop) -> None:
        _abandoned_tasks.extend(repr(task) for task in asyncio.all_tasks(loop))
        original(loop)

    asyncio.runners._cancel_all_tasks = remembering  # type: ignore[attr-defined]  # asyncio offers no hook there


def _open_what_a_process_opens_once() -> None:
    """libuv makes a pipe for its first loop, and pyzmq a thread for the first message sent without a copy."""
    uvloop.new_event_loop().close()
    garbage.gc.start()
    assert garbage.gc._push_socket is not None  # made by being asked for


_open_what_a_process_opens_once()
_remember_contexts()
_remember_abandoned_tasks()


def _open_files() -> set[tuple[str, str]]:
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if target.startswith(WATCHED_FILES) or "pytest-of-" in target:
            found.add((entry, target))
    return found


def _children() -> set[str]:
    found: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile has no children
            found.update(Path(f"/proc/self/task/{task}/children").read_text(encoding="ascii").split())
    return found


class _Open:
    """What is open now, so that what was opened since can be told."""

    def __init__(self) -> None:
        self.files = _open_files()
        self.threads = set(threading.enumerate())
        self.children = _children()
        self.contexts = {context for context in _contexts if not context.closed}

    def opened_since(self, before: _Open) -> list[str]:
        return [
            *(f"thread {thread.name}" for thread in self.threads - before.threads),
            *(f"child process {pid}" for pid in sorted(self.children - before.children)),
            *(f"{context!r} not terminated" for context in self.contexts - before.contexts),
            *(f"file descriptor {number} -> {target}" for number, target in sorted(self.files - before.files)),
        ]


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    before = _Open()
    _abandoned_tasks.clear()
    yield
    leaks = _Open().opened_since(before)
    deadline = time.monotonic() + GRACE_S
    while leaks and time.monotonic() < deadline:
        gc.collect()
        time.sleep(POLL_S)
        leaks = _Open().opened_since(before)
    leaks += [f"task {task}" for task in _abandoned_tasks]
    if leaks:
        pytest.fail("the test left open:\n  " + "\n  ".join(leaks), pytrace=False)
