"""The receiving half of a session: what to admit, what to acknowledge and when, and how much credit to grant.

Credit is granted for what handlers have taken, not for what has arrived: so a handler that stops makes its senders
wait, and the most this node can be made to hold for a peer is the window.
"""

from __future__ import annotations

import enum
from typing import Final

from zmesh.errors import ProtocolViolation, check

__all__ = ["ReceiveSession", "Verdict"]

ACK_DELAY_S: Final = 0.001  # long enough for a reply to carry the ack, short against any probe
ACK_SHARE: Final = 8  # at a window's eighth owed, the ack goes at once: the sender never runs dry


class Verdict(enum.Enum):
    """What to do with a frame's records."""

    DELIVER = "deliver"
    DUPLICATE = "duplicate"
    GAP = "gap"


DELIVER: Final = Verdict.DELIVER  # an attribute of an enumeration costs 100 ns in CPython 3.11, a global none


class ReceiveSession:
    """What this node has received from one incarnation of a peer."""

    __slots__ = (
        "_ack_bytes",
        "_owed_bytes",
        "_rewind",
        "_rewound_at",
        "ack_at",
        "consumed_bytes",
        "expected",
        "received_bytes",
        "window",
    )

    def __init__(self, window_bytes: int) -> None:
        self.window = window_bytes
        self._ack_bytes = window_bytes // ACK_SHARE
        self.expected = 1  # the number the next new record must have; also the cumulative ack
        self.received_bytes = 0
        self.consumed_bytes = 0
        self._owed_bytes = 0
        self._rewind = False
        self._rewound_at = 0  # the expected number for which a rewind was last asked
        self.ack_at: float | None = None  # when an ack must leave at the latest; None where none is owed

    @property
    def limit(self) -> int:
        """The absolute offset up to which the peer may send."""
        return self.consumed_bytes + self.window

    def receive(self, now: float, first: int, count: int, size: int) -> Verdict:
        """Judge a frame of ``count`` records from ``first``. Raises ``ProtocolViolation`` where frames overlap."""
        if first == self.expected:
            self.expected = first + count
            self.received_bytes += size
            if self.ack_at is None:
                self.ack_at = now + ACK_DELAY_S
            return DELIVER
        if first > self.expected:
            self._ask_rewind(now)
            return Verdict.GAP
        if first + count > self.expected:
            raise ProtocolViolation("overlapping_frame", f"records {first}+{count}, expected {self.expected}")
        self.ack_at = now
        return Verdict.DUPLICATE

    def probed(self, now: float, sent_below: int) -> None:
        """The peer asks what is here, having sent all records below ``sent_below``: answer at once.

        A connection keeps its order, so whatever is missing now is lost.
        """
        self.ack_at = now
        self._rewind = sent_below > self.expected

    def ack_wanted(self, now: float) -> None:
        """Somebody at the other end waits for the ack of what has just come."""
        self.ack_at = now

    def consumed(self, now: float, size: int) -> None:
        """Handlers have taken ``size`` bytes: more credit to grant."""
        self.consumed_bytes += size
        if self.consumed_bytes > self.received_bytes:
            check(False, "more consumed than received")
        self._owed_bytes += size
        if self._owed_bytes >= self._ack_bytes:
            self.ack_at = now
        elif self.ack_at is None:
            self.ack_at = now + ACK_DELAY_S

    def ack_due(self, now: float) -> bool:
        """Whether an ack must leave now, riding on nothing."""
        return self.ack_at is not None and now >= self.ack_at

    def take_ack(self) -> tuple[int, int, bool]:
        """``(ack, limit, rewind)`` for a frame that leaves now; nothing is owed after it."""
        rewind, self._rewind = self._rewind, False
        self._owed_bytes = 0
        self.ack_at = None
        return self.expected, self.consumed_bytes + self.window, rewind

    def next_deadline(self) -> float | None:
        """When an ack must leave at the latest."""
        return self.ack_at

    def _ask_rewind(self, now: float) -> None:
        # Once per hole: the frames behind it, still under way, must not each ask for everything again.
        if self._rewound_at == self.expected:
            return
        self._rewound_at = self.expected
        self._rewind = True
        self.ack_at = now
