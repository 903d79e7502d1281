"""The sending half of a session.

Intuition: a TCP connection, one layer up. Records are numbered; a frame is held until the cumulative ack passes it;
the peer's grant says how many bytes may be under way. What TCP cannot give is what happens when the connection itself
breaks: then everything held is sent again on the next one, and the receiver drops by number what it had. When acks
stall, a probe asks; ZeroMQ keeps one connection in order, so the answer tells exactly whether something was lost, and
only then is anything sent again. (Blind retransmission was rejected: to a stopped peer it would pile copies into
ZeroMQ's queue.)
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from zmesh.errors import ProtocolViolation

__all__ = ["BeginAnew", "DeliveryEffect", "HeldFrame", "Resend", "SendProbe", "SendSession"]

PROBE_WAIT_S: Final = 0.2  # many round trips on any LAN; a WAN merely probes once too often
PROBE_WAIT_MAX_S: Final = 3.0


@dataclass(slots=True)
class HeldFrame:
    """A frame until it is acknowledged: ``count`` records from number ``first``, as ``size`` bytes of ZeroMQ parts."""

    first: int
    count: int
    size: int
    parts: tuple[bytes | memoryview, ...]


@dataclass(frozen=True, slots=True)
class Resend:
    """Hand these frames to the transport again, in this order."""

    frames: tuple[HeldFrame, ...]


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Send a frame with PROBE set."""


@dataclass(frozen=True, slots=True)
class BeginAnew:
    """The peer has nothing of this session, though it had: it is another process. Report what is held; start over."""


DeliveryEffect = Resend | SendProbe | BeginAnew
_NOTHING: tuple[DeliveryEffect, ...] = ()


class SendSession:
    """What this node has sent to one incarnation of a peer. All numbers start at 1."""

    __slots__ = ("_probe_at", "_probe_wait_s", "acked", "held", "limit", "next_record", "sent_bytes")

    def __init__(self, initial_credit_bytes: int) -> None:
        self.next_record = 1  # the number the next record gets
        self.acked = 1  # every record below this is in the peer's hands
        self.sent_bytes = 0
        self.limit = initial_credit_bytes  # the peer lets sent_bytes grow to this
        self.held: deque[HeldFrame] = deque()
        self._probe_at: float | None = None
        self._probe_wait_s = PROBE_WAIT_S

    @property
    def room_bytes(self) -> int:
        """Credit left; negative where replies have overdrawn it."""
        return self.limit - self.sent_bytes

    def commit(self, now: float, count: int, size: int, parts: tuple[bytes | memoryview, ...]) -> HeldFrame:
        """Number ``count`` records and hold their frame."""
        frame = HeldFrame(self.next_record, count, size, parts)
        self.next_record += count
        self.sent_bytes += size
        self.held.append(frame)
        if self._probe_at is None:
            self._probe_at = now + self._probe_wait_s
        return frame

    def receive(self, now: float, ack: int, limit: int, rewind: bool) -> tuple[DeliveryEffect, ...]:
        """Take in the ack part of a frame from the peer. Raises ``ProtocolViolation`` for an impossible ack."""
        if ack > self.next_record:
            raise ProtocolViolation("impossible_ack", f"acknowledges {ack}, sent below {self.next_record}")
        if limit > self.limit:
            self.limit = limit
        if ack > self.acked:
            self._advance(now, ack)
        if not rewind:
            return _NOTHING
        if ack == 1 and self.acked > 1:
            return (BeginAnew(),)
        return (Resend(tuple(self.held)),) if ack == self.acked and self.held else _NOTHING

    def connected(self, now: float) -> tuple[DeliveryEffect, ...]:
        """A new connection stands: nothing held has been sent on it."""
        if not self.held:
            return _NOTHING
        self._probe_at = now + self._probe_wait_s
        return (Resend(tuple(self.held)),)

    def want_probe(self, now: float) -> None:
        """Ask the peer soon: credit is wanted and nothing is held whose ack would bring it."""
        if self._probe_at is None:
            self._probe_at = now + self._probe_wait_s

    def handle_timeout(self, now: float) -> tuple[DeliveryEffect, ...]:
        """Probe where acks have stalled; the wait doubles to 3 s while no ack comes."""
        if self._probe_at is None or now < self._probe_at:
            return _NOTHING
        self._probe_wait_s = min(self._probe_wait_s * 2, PROBE_WAIT_MAX_S)
        self._probe_at = now + self._probe_wait_s if self.held else None
        return (SendProbe(),)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` has something to do."""
        return self._probe_at

    def _advance(self, now: float, ack: int) -> None:
        held = self.held
        while held and held[0].first < ack:
            end = held[0].first + held[0].count
            if end > ack:
                raise ProtocolViolation("impossible_ack", f"acknowledges {ack}, inside the frame that ends at {end}")
            self.acked = end
            held.popleft()
        self._probe_wait_s = PROBE_WAIT_S
        self._probe_at = now + PROBE_WAIT_S if held else None
