"""Which nodes may connect, and with which keys: those whose certificates this node has verified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zmesh.security import VerifiedCertificate

__all__ = ["Admitted", "AllowList"]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A node whose certificate has been verified."""

    node_id: str
    curve_public: bytes
    fingerprint: str
    certificate: bytes
    not_after_ms: int


class AllowList:
    """The admitted nodes, one key each. Used on the control thread alone."""

    def __init__(self) -> None:
        self.on_admitted: Callable[[Admitted], None] = lambda admitted: None
        self._by_key: dict[bytes, Admitted] = {}
        self._by_name: dict[str, Admitted] = {}

    def admit(self, verified: VerifiedCertificate, certificate: bytes) -> Admitted:
        """Let the node connect with the key in its certificate, and with no other from now on."""
        admitted = Admitted(
            verified.name, verified.curve_public, verified.fingerprint, certificate, verified.not_after_ms
        )
        self.forget(verified.name)
        self._by_key[admitted.curve_public] = self._by_name[admitted.node_id] = admitted
        self.on_admitted(admitted)
        return admitted

    def forget(self, node_id: str) -> None:
        """Let it introduce itself anew, should it come back."""
        previous = self._by_name.pop(node_id, None)
        if previous is not None:
            self._by_key.pop(previous.curve_public, None)

    def by_key(self, curve_public: bytes) -> Admitted | None:
        """The node with that key."""
        return self._by_key.get(curve_public)

    def by_name(self, node_id: str) -> Admitted | None:
        """The node of that name."""
        return self._by_name.get(node_id)
