"""What a node knows of one neighbour at first hand: when it was heard, and how many of its heartbeats were lost."""

from __future__ import annotations

from typing import Final

from zmesh.core.membership.messages import KnockOutcome
from zmesh.core.membership.statements import Alive

__all__ = ["LOSSY_SHARE", "Watch"]

WINDOW: Final = 20  # heartbeats over which losses are counted
WINDOW_MASK: Final = (1 << WINDOW) - 1
WINDOW_LEAST: Final = 10  # fewer tell nothing
RECENT: Final = 8
LOSSY_SHARE: Final = 0.5


class Watch:
    """What is known of one neighbour, at first hand."""

    __slots__ = (
        "alive",
        "bits",
        "heard_at",
        "is_accused",
        "is_hinted",
        "is_lossy",
        "is_suspect",
        "is_told",
        "kernel",
        "number",
        "seen",
    )

    def __init__(self, alive: Alive, now: float) -> None:
        self.alive = alive
        self.heard_at = now
        self.number = -1
        self.bits = 0  # of the last heartbeats, newest first: 1 came, 0 was lost
        self.seen = 0
        self.is_suspect = False  # silent for a while, and asked
        self.is_told = False  # and the process was told so
        self.is_accused = False
        self.is_hinted = False
        self.is_lossy = False
        self.kernel: KnockOutcome | None = None

    def count(self, number: int) -> None:
        """A heartbeat came."""
        missed = number - self.number - 1
        if self.number < 0 or missed > WINDOW:
            self.bits, self.seen = 1, 1
        elif missed >= 0:
            self.bits = ((self.bits << (missed + 1)) | 1) & WINDOW_MASK
            self.seen = min(self.seen + missed + 1, WINDOW)
        self.number = max(self.number, number)

    @property
    def lost_share(self) -> float:
        """What share of its heartbeats was lost of late."""
        return 1.0 - self.bits.bit_count() / self.seen if self.seen >= WINDOW_LEAST else 0.0

    @property
    def has_gaps(self) -> bool:
        """Whether of the very last heartbeats some were lost."""
        count = min(self.seen, RECENT)
        return (self.bits & ((1 << count) - 1)).bit_count() <= count - 2

    @property
    def is_sound(self) -> bool:
        """Whether enough of its heartbeats came to say that they do."""
        return self.seen >= WINDOW_LEAST and self.lost_share < LOSSY_SHARE
