"""What a link knows of its peer: where it listens, and what it has sent so far."""

from __future__ import annotations

from dataclasses import dataclass

from zmesh.core.delivery import Reassembly, ReceiveSession

__all__ = ["PeerAddress", "ReceivingHalf"]


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a peer's data socket listens, and the key it must prove."""

    endpoint: str
    curve_public: bytes


class ReceivingHalf:
    """What is known of a peer's sending session. It outlives the link, so that nothing is delivered twice."""

    __slots__ = ("is_over", "reassembly", "session", "state")

    def __init__(self, session: int, window_bytes: int, max_message_bytes: int) -> None:
        self.session = session  # the peer's number for it; 0 before its first frame
        self.is_over = False  # its process is no more: kept to know late frames of it, and not spoken of
        self.state = ReceiveSession(window_bytes)
        self.reassembly = Reassembly(max_message_bytes)
