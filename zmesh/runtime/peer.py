"""Where a peer is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PeerAddress", "Route", "endpoint_of"]


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where one of a peer's sockets listens, and the key it must prove."""

    endpoint: str
    curve_public: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """Where a node's control socket is, and the key it must have."""

    host: str
    port: int
    curve_public: bytes


def endpoint_of(host: str, port: int) -> str:
    """``tcp://HOST:PORT``, an IPv6 host in brackets."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
