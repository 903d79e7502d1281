"""Who may call itself what: the rules of certificate chains, without any cryptography."""

from zmesh.core.trust.certificate import Certificate, CertificateRefused, RefusalReason, SignedCertificate
from zmesh.core.trust.rules import CLOCK_GRACE_MS, MAX_DELEGATED_LIFE_MS, check_chain

__all__ = [
    "CLOCK_GRACE_MS",
    "MAX_DELEGATED_LIFE_MS",
    "Certificate",
    "CertificateRefused",
    "RefusalReason",
    "SignedCertificate",
    "check_chain",
]
