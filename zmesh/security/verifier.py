"""``Verifier``: whether the certificate chain that a stranger shows makes it a member of this mesh, and as whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from zmesh.core.trust.certificate import Certificate, CertificateRefused, RefusalReason
from zmesh.core.trust.rules import check_claims, check_period
from zmesh.security.certificate import decode_chain, is_genuine
from zmesh.security.keys import fingerprint_of, z85_encode

__all__ = ["VerifiedCertificate", "Verifier"]

MAX_REMEMBERED: Final = 8192  # chains of some 500 bytes; all nodes of a process share them


@dataclass(frozen=True, slots=True)
class VerifiedCertificate:
    """What a chain proves about its leaf. Made only by ``Verifier.verify``, so that having one is the proof."""

    name: str
    curve_public: bytes  # Z85
    signing_public: bytes  # Ed25519, 32 bytes
    issuer: str  # "" for the mesh authority, else the node that delegated
    serial: int
    roles: tuple[str, ...]
    not_before_ms: int
    not_after_ms: int
    fingerprint: str


class Verifier:
    """Checks chains against one mesh authority. Holds no secret: safe to use from any thread.

    A chain that was once found good is not checked again, but for its dates: a node meets each several times (in an
    introduction, in statements, in records), and the nodes of one process meet the same ones.
    """

    def __init__(self, mesh_id: str, authority_public: bytes) -> None:
        self._mesh_id = mesh_id
        self._authority_public = authority_public

    def verify(self, chain: bytes, now_ms: int, curve_public: bytes | None = None) -> VerifiedCertificate:
        """What the encoded chain proves at ``now_ms`` (milliseconds since the epoch).

        ``curve_public`` (Z85) is the key the peer's connection was authenticated with: the certificate must be for
        it. Leave it out only where no connection shows the chain. Raises ``CertificateRefused``, a ``Refused`` whose
        ``reason_code`` is one of other_mesh, expired, not_yet_valid, forged, wrong_key, malformed.
        """
        leaf, verified = _prove(chain, self._mesh_id, self._authority_public)
        check_period(leaf, now_ms)
        if curve_public is not None:
            _check_key(verified, curve_public)
        return verified


@lru_cache(maxsize=MAX_REMEMBERED)
def _prove(chain: bytes, mesh_id: str, authority_public: bytes) -> tuple[Certificate, VerifiedCertificate]:
    """What the chain proves at any time at which its leaf is good. A refusal is raised, and so never remembered."""
    links = decode_chain(chain)
    leaf = check_claims(links, mesh_id=mesh_id, authority_public=authority_public, is_genuine=is_genuine)
    return leaf, _verified(leaf)


def _verified(leaf: Certificate) -> VerifiedCertificate:
    curve_public = z85_encode(leaf.curve_key)
    return VerifiedCertificate(
        name=leaf.name,
        curve_public=curve_public,
        signing_public=leaf.signing_key,
        issuer=leaf.issuer,
        serial=leaf.serial,
        roles=leaf.roles,
        not_before_ms=leaf.not_before_ms,
        not_after_ms=leaf.not_after_ms,
        fingerprint=fingerprint_of(curve_public),
    )


def _check_key(verified: VerifiedCertificate, curve_public: bytes) -> None:
    if verified.curve_public != curve_public:
        raise CertificateRefused(
            RefusalReason.WRONG_KEY,
            f"the certificate of {verified.name!r} is for another key than the one its bearer connected with",
        )
