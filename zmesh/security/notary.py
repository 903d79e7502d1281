"""Signs and checks the statements of membership (docs/spec/06-membership.md, section 1) by the certificates' keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from zmesh.core.membership.statements import Alive, Statement
from zmesh.core.trust.certificate import CertificateRefused
from zmesh.security.identity import Identity
from zmesh.security.verifier import VerifiedCertificate, Verifier

__all__ = ["NodeNotary"]

CONTEXT: Final = b"zmesh statement 2\0"  # what is signed for one purpose is worth nothing for another
MAX_CERTIFICATES: Final = 16_384


class NodeNotary:
    """A node's ``Notary``. A certificate is checked once and remembered, a statement each time it comes."""

    def __init__(self, identity: Identity, verifier: Verifier, now_ms: Callable[[], int]) -> None:
        self._key = SigningKey(identity.signing_seed)
        self._verifier = verifier
        self._now_ms = now_ms
        self._verified: dict[bytes, tuple[VerifiedCertificate, VerifyKey]] = {}

    def sign(self, payload: bytes) -> bytes:
        """This node's signature."""
        return self._key.sign(CONTEXT + payload).signature

    def verify(self, author: Alive, statement: Statement) -> bool:
        """Whether ``author`` signed that, under a certificate of the mesh that is in its name and in force."""
        known = self._known(author.certificate)
        if known is None or known[0].name != author.node_id or known[0].not_after_ms < self._now_ms():
            return False
        try:
            known[1].verify(CONTEXT + statement.payload(), statement.signature)
        except (BadSignatureError, ValueError):  # ValueError: a signature of another length
            return False
        return True

    def _known(self, certificate: bytes) -> tuple[VerifiedCertificate, VerifyKey] | None:
        known = self._verified.get(certificate)
        if known is None:
            try:
                verified = self._verifier.verify(certificate, self._now_ms())
            except CertificateRefused:
                return None
            while len(self._verified) >= MAX_CERTIFICATES:
                del self._verified[next(iter(self._verified))]
            known = self._verified[certificate] = (verified, VerifyKey(verified.signing_public))
        return known
