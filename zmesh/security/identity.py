"""``Identity``: everything a running node needs to prove who it is and to let others prove who they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from zmesh.security.certificate import decode_chain
from zmesh.security.keys import fingerprint_of
from zmesh.security.masking import HoldsSecrets

__all__ = ["Identity"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Identity(HoldsSecrets):
    """A node's name, keys and certificate, with the keys of its mesh. Never shows a secret; cannot be pickled."""

    node_id: str
    mesh: str  # what people call the mesh
    mesh_id: str  # what the authority's key makes it: 32 hexadecimal digits
    curve_public: bytes  # CURVE keys are Z85, 40 bytes, as ZeroMQ wants them
    curve_secret: bytes = field(compare=False)
    signing_seed: bytes = field(compare=False)  # Ed25519, 32 bytes
    certificate: bytes  # the encoded chain, leaf first
    authority_public: bytes  # Ed25519, 32 bytes
    gate_public: bytes  # the server key of every node's introduction port
    gate_secret: bytes = field(compare=False)

    @property
    def fingerprint(self) -> str:
        """The node's CURVE key for people to compare, as ``3F2A-91BC-...``."""
        return fingerprint_of(self.curve_public)

    @property
    def period_ms(self) -> tuple[int, int]:
        """From when until when the certificate is good, in milliseconds since the epoch."""
        leaf = decode_chain(self.certificate)[0].certificate
        return leaf.not_before_ms, leaf.not_after_ms

    @property
    def vouched_until_ms(self) -> int:
        """Until when the mesh authority has vouched for this machine: no certificate of its goes beyond that."""
        return decode_chain(self.certificate)[-1].certificate.not_after_ms

    def __repr__(self) -> str:
        return f"Identity(node_id={self.node_id!r}, mesh={self.mesh!r}, fingerprint={self.fingerprint!r})"
