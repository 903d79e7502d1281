"""Where a peer is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PeerAddress"]


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where one of a peer's sockets listens, and the key it must prove."""

    endpoint: str
    curve_public: bytes
