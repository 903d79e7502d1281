"""Asks the control plane for the ways to nodes that something here waits for, again and again until they are found.

In a wide mesh a member is known without an address: it is looked for when there is something to send to it. Whoever
has that says so as often as it likes, and the control plane is asked at once, then after a second, then less often.
Nothing is remembered of who waits: one that stops to wait stops to say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["WayFinder"]

ASK_AGAIN_S: Final = 1.0  # after the first time, then doubled: an introduction takes milliseconds, or its 4 s are over
ASK_AGAIN_MAX_S: Final = 16.0


@dataclass(slots=True)
class _Asked:
    again_at: float
    wait_s: float


class WayFinder:
    """Used on the loop's thread alone."""

    def __init__(self, find: Callable[[str], None], clock: Callable[[], float]) -> None:
        """``find`` asks the control plane, which answers by a notice with an address, or not at all."""
        self._find = find
        self._clock = clock
        self._asked: dict[str, _Asked] = {}

    def want(self, node_id: str) -> None:
        """Something waits for the way to that node."""
        now = self._clock()
        asked = self._asked.get(node_id)
        if asked is None:
            self._asked[node_id] = _Asked(now + ASK_AGAIN_S, ASK_AGAIN_S)
        elif now < asked.again_at:
            return
        else:
            asked.wait_s = min(asked.wait_s * 2, ASK_AGAIN_MAX_S)
            asked.again_at = now + asked.wait_s
        self._find(node_id)

    def forget(self, node_id: str) -> None:
        """The way is known, or the node another one: whoever wants a way to it now is the first."""
        self._asked.pop(node_id, None)
