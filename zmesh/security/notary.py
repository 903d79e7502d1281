"""Signs and checks the statements of membership (docs/spec/06-membership.md, section 1) by the certificates' keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from zmesh.core.membership.statements import Alive, Statement
from zmesh.core.trust.certificate import CertificateRefused
from zmesh.security.identity import Identity
from zmesh.security.verifier import Verifier

__all__ = ["NodeNotary"]

CONTEXT: Final = b"zmesh statement 2\0"  # what is signed for one purpose is worth nothing for another
MAX_REMEMBERED: Final = 16_384  # statements of some 200 bytes; all nodes of a process share them


class NodeNotary:
    """A node's ``Notary``. What was found to be signed is remembered: the same statement comes by several ways."""

    def __init__(self, identity: Identity, verifier: Verifier, now_ms: Callable[[], int]) -> None:
        self._key = SigningKey(identity.signing_seed)
        self._verifier = verifier
        self._now_ms = now_ms

    def sign(self, payload: bytes) -> bytes:
        """This node's signature."""
        return self._key.sign(CONTEXT + payload).signature

    def verify(self, author: Alive, statement: Statement) -> bool:
        """Whether ``author`` signed that, under a certificate of the mesh that is in its name and in force."""
        try:
            verified = self._verifier.verify(author.certificate, self._now_ms())
        except CertificateRefused:
            return False
        if verified.name != author.node_id:
            return False
        try:
            _check_signature(verified.signing_public, statement.payload(), statement.signature)
        except (BadSignatureError, ValueError):  # ValueError: a signature of another length
            return False
        return True


@lru_cache(maxsize=MAX_REMEMBERED)
def _check_signature(signing_public: bytes, payload: bytes, signature: bytes) -> None:
    """Raises for a false signature, so that true ones alone are remembered."""
    VerifyKey(signing_public).verify(CONTEXT + payload, signature)
