"""Keys, certificates, invitations: who is a member of a mesh, and how that is proved (docs/spec/04-trust.md)."""

from zmesh.core.trust.certificate import CertificateRefused, RefusalReason
from zmesh.security.authority import Authority
from zmesh.security.identity import Identity
from zmesh.security.invitation import (
    EnrolAnswer,
    Enrolled,
    EnrolRequest,
    Invitation,
    make_request,
    open_answer,
    parse_join_string,
)
from zmesh.security.keys import NodeKeys, fingerprint_of
from zmesh.security.keystore import Claim, Keystore, RunningNode, default_node_name
from zmesh.security.naming import RENEW_AHEAD_MS
from zmesh.security.notary import NodeNotary
from zmesh.security.verifier import VerifiedCertificate, Verifier

__all__ = [
    "RENEW_AHEAD_MS",
    "Authority",
    "CertificateRefused",
    "Claim",
    "EnrolAnswer",
    "EnrolRequest",
    "Enrolled",
    "Identity",
    "Invitation",
    "Keystore",
    "NodeKeys",
    "NodeNotary",
    "RefusalReason",
    "RunningNode",
    "VerifiedCertificate",
    "Verifier",
    "default_node_name",
    "fingerprint_of",
    "make_request",
    "open_answer",
    "parse_join_string",
]
