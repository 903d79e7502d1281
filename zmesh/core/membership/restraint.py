"""Tells the same node the same thing at most so often: what two answer each other must not go round for ever."""

from __future__ import annotations

from typing import Final

__all__ = ["Restraint"]

MAX_TOLD: Final = 1024
FOREVER: Final = float("inf")


class Restraint:
    """When each node was last told something."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._told: dict[str, float] = {}

    def allows(self, node_id: str, now: float) -> bool:
        """Whether it may be told now; if so, it counts as told."""
        if now - self._told.get(node_id, -FOREVER) < self._interval_s:
            return False
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told[node_id] = now
        return True
