"""What a node knows of one neighbour at first hand: when it was heard, and how many of its heartbeats were lost."""

from __future__ import annotations

from typing import Final

from zmesh.core.membership.messages import KnockOutcome
from zmesh.core.membership.statements import Alive

__all__ = ["LOSSY_SHARE", "Watch"]

WINDOW: Final = 20  # heartbeats over which losses are counted
WINDOW_LEAST: Final = 10  # fewer tell nothing
RECENT: Final = 8
LOSSY_SHARE: Final = 0.5
NONE_YET: Final = -3  # heartbeats that ask have -1: no number follows this one


class Watch:
    """What is known of one neighbour, at first hand."""

    __slots__ = (
        "alive",
        "first",
        "heard_at",
        "is_accused",
        "is_hinted",
        "is_lossy",
        "is_suspect",
        "is_told",
        "kernel",
        "lost",
        "number",
    )

    def __init__(self, alive: Alive, now: float) -> None:
        self.alive = alive
        self.heard_at = now
        self.is_suspect = False  # silent for a while, and asked
        self.is_told = False  # and the process was told so
        self.is_accused = False
        self.is_hinted = False
        self.is_lossy = False
        self.kernel: KnockOutcome | None = None
        self.count_anew()

    def count_anew(self) -> None:
        """Forget which heartbeats came."""
        self.first = self.number = NONE_YET  # of the heartbeats counted, and the greatest
        self.lost: tuple[int, ...] = ()  # of the last ones, by number

    def count(self, number: int) -> None:
        """A heartbeat came. Where it follows the last, that ``number`` is moved on is all."""
        missed = number - self.number - 1
        if self.number == NONE_YET or missed > WINDOW:
            self.first, self.lost = number, ()
        elif missed > 0:
            kept = [lost for lost in self.lost if lost > number - WINDOW]
            self.lost = (*kept, *range(max(self.number, number - WINDOW) + 1, number))
        self.number = max(self.number, number)

    def _lost_of(self, window: int) -> int:
        return sum(1 for lost in self.lost if lost > self.number - window)

    @property
    def seen(self) -> int:
        """How many of its last heartbeats are counted, those lost among them."""
        return min(self.number - self.first + 1, WINDOW) if self.number != NONE_YET else 0

    @property
    def lost_share(self) -> float:
        """What share of its heartbeats was lost of late."""
        return self._lost_of(WINDOW) / self.seen if self.lost and self.seen >= WINDOW_LEAST else 0.0

    @property
    def has_gaps(self) -> bool:
        """Whether of the very last heartbeats some were lost."""
        return self._lost_of(RECENT) >= 2

    @property
    def is_sound(self) -> bool:
        """Whether enough of its heartbeats came to say that they do."""
        return self.seen >= WINDOW_LEAST and self.lost_share < LOSSY_SHARE
