"""Signs of life: what comes on the data plane counts, and the control thread must learn of it without being called.

A frame costs the loop one assignment to a dictionary. The control thread empties it at its own pace: with each of its
heartbeats, and so before it suspects anybody. Neither waits for the other. That is safe under CPython's lock: storing
under a text or bytes and ``popitem`` are each one step of the interpreter, which runs no code of ours for them; what is
stored between two steps is found by the next. The dictionary is never iterated and never replaced.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["Signs"]

Key = TypeVar("Key", str, bytes)


class Signs:
    """Who was heard on the data plane since the control thread last asked: at most one entry a peer."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}  # of those that sent to this node; written by the loop alone, as are
        self.keys: dict[bytes, None] = {}  # those (Z85) that published what it heard: ZeroMQ names no publisher

    def take_names(self) -> list[str]:
        """The names, once. For the control thread."""
        return _drained(self.names)

    def take_keys(self) -> list[bytes]:
        """The keys, once. For the control thread."""
        return _drained(self.keys)


def _drained(heard: dict[Key, None]) -> list[Key]:
    # As many as there are now: the loop may add faster than they are taken.
    taken: list[Key] = []
    for _ in range(len(heard)):
        taken.append(heard.popitem()[0])
    return taken
