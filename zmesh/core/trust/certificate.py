"""What a certificate says, and why one is refused (docs/spec/04-trust.md, section 2).

Plain data: how it is encoded and signed is the security layer's business, so the rules over it can be tested and
simulated without a key.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from zmesh.errors import Refused

__all__ = [
    "AUTHORITY",
    "KEY_BYTES",
    "NAME_PATTERN",
    "SIGNATURE_BYTES",
    "Certificate",
    "CertificateRefused",
    "RefusalReason",
    "SignedCertificate",
]

AUTHORITY = ""  # the ``issuer`` of a certificate signed by the mesh authority; no node can have this name
KEY_BYTES = 32
SIGNATURE_BYTES = 64
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}(/[A-Za-z0-9][A-Za-z0-9._-]{0,30})?")


class RefusalReason(enum.StrEnum):
    """Why a certificate is refused; the word is used in counters and incidents."""

    OTHER_MESH = "other_mesh"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    FORGED = "forged"
    WRONG_KEY = "wrong_key"
    MALFORMED = "malformed"


class CertificateRefused(Refused):
    """A certificate chain breaks a rule. ``reason_code`` is the fixed word, the text is for people."""

    def __init__(self, reason_code: RefusalReason, text: str) -> None:
        super().__init__(text)
        self.reason_code = reason_code

    def __reduce__(self) -> tuple[type[CertificateRefused], tuple[RefusalReason, str]]:
        return type(self), (self.reason_code, str(self))


@dataclass(frozen=True, slots=True)
class Certificate:
    """Who has which keys, for how long, by whose word. Times are milliseconds since the epoch, keys 32 raw bytes."""

    mesh_id: str
    name: str
    serial: int  # with the issuer, the name of this certificate: what a revocation points at
    curve_key: bytes
    signing_key: bytes
    issuer: str  # AUTHORITY, or the name of the node that delegated
    not_before_ms: int
    not_after_ms: int
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """One link of a chain: the certificate, the exact bytes that were signed, and the signature over them."""

    certificate: Certificate
    signed_bytes: bytes
    signature: bytes
