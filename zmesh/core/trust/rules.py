"""The rules a certificate chain must keep (docs/spec/04-trust.md, section 3).

A chain is one certificate signed by the mesh authority, or two: a certificate that such a node signed for a name under
its own, and the node's. Each rule is a function of its own that raises; ``check_chain`` is the list of them. What
does not depend on the clock (``check_claims``) holds for ever once it holds, and may be remembered. The
signature check comes in as a function, so that nothing here needs a cryptographic library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zmesh.core.trust.certificate import (
    AUTHORITY,
    KEY_BYTES,
    NAME_PATTERN,
    SIGNATURE_BYTES,
    Certificate,
    CertificateRefused,
    RefusalReason,
    SignedCertificate,
)

__all__ = [
    "CLOCK_GRACE_MS",
    "MAX_CHAIN_LINKS",
    "MAX_DELEGATED_LIFE_MS",
    "MAX_ROLES",
    "SignatureCheck",
    "check_chain",
    "check_claims",
    "check_period",
    "show_span",
]

HOUR_MS = 3_600_000
CLOCK_GRACE_MS = 36 * HOUR_MS  # a clock set to the wrong day, in any time zone, must not lock a machine out
MAX_CHAIN_LINKS = 2  # a delegate may not delegate again: a longer chain would only be harder to judge
MAX_DELEGATED_LIFE_MS = 30 * 24 * HOUR_MS  # nobody keeps a ledger of delegated certificates, so they die soon
MAX_ROLES = 16
MAX_ROLE_LENGTH = 64
_MAX_I64 = (1 << 63) - 1  # what every language's signed integer holds

SignatureCheck = Callable[[bytes, bytes, bytes], bool]  # (public key, signed bytes, signature) -> is it genuine


def check_chain(
    links: Sequence[SignedCertificate],
    *,
    mesh_id: str,
    authority_public: bytes,
    now_ms: int,
    is_genuine: SignatureCheck,
) -> Certificate:
    """The leaf of a chain that keeps every rule. Raises ``CertificateRefused``.

    ``links`` is leaf first. Signatures are checked before what they cover is believed, and the clock is consulted
    last, so that a forged certificate is called forged whatever dates it bears.
    """
    leaf = check_claims(links, mesh_id=mesh_id, authority_public=authority_public, is_genuine=is_genuine)
    check_period(leaf, now_ms)
    return leaf


def check_claims(
    links: Sequence[SignedCertificate], *, mesh_id: str, authority_public: bytes, is_genuine: SignatureCheck
) -> Certificate:
    """The leaf of a chain that keeps every rule but those of time. Raises ``CertificateRefused``."""
    _check_length(links)
    for link in links:
        _check_shape(link)
        _check_mesh(link.certificate, mesh_id)
    _check_signatures(links, authority_public, is_genuine)
    _check_root(links[-1].certificate)
    leaf = links[0].certificate
    if len(links) == MAX_CHAIN_LINKS:
        issuer = links[1].certificate
        _check_delegated_name(leaf, issuer)
        _check_delegated_period(leaf, issuer)
        _check_delegated_roles(leaf, issuer)
    return leaf


def check_period(leaf: Certificate, now_ms: int) -> None:
    """Whether the leaf is good at that time. Its period lies inside its issuer's, so it stands for both."""
    _check_started(leaf, now_ms)
    _check_not_expired(leaf, now_ms)


def show_span(span_ms: int) -> str:
    """A length of time for people, in the largest unit of which there are two: ``49 hours``, ``12 days``."""
    for unit, unit_ms in (("days", 24 * HOUR_MS), ("hours", HOUR_MS), ("minutes", 60_000)):
        if span_ms >= 2 * unit_ms:
            return f"{span_ms // unit_ms} {unit}"
    return f"{span_ms // 1000} seconds"


def _refuse(reason: RefusalReason, text: str) -> CertificateRefused:
    return CertificateRefused(reason, text)


def _check_length(links: Sequence[SignedCertificate]) -> None:
    if not 1 <= len(links) <= MAX_CHAIN_LINKS:
        raise _refuse(RefusalReason.MALFORMED, f"a certificate chain has 1 or 2 links, not {len(links)}")


def _check_shape(link: SignedCertificate) -> None:
    certificate = link.certificate
    if not NAME_PATTERN.fullmatch(certificate.name):
        raise _refuse(RefusalReason.MALFORMED, "the certificate's name is not a node name")
    if len(certificate.curve_key) != KEY_BYTES or len(certificate.signing_key) != KEY_BYTES:
        raise _refuse(RefusalReason.MALFORMED, f"the certificate of {certificate.name!r} has a key of the wrong size")
    if len(link.signature) != SIGNATURE_BYTES:
        raise _refuse(RefusalReason.MALFORMED, f"the signature on {certificate.name!r} has the wrong size")
    if not 0 <= certificate.not_before_ms < certificate.not_after_ms <= _MAX_I64:
        raise _refuse(RefusalReason.MALFORMED, f"the certificate of {certificate.name!r} has no possible period")
    if not 0 <= certificate.serial <= _MAX_I64:
        raise _refuse(RefusalReason.MALFORMED, f"the certificate of {certificate.name!r} has no possible serial")
    if len(certificate.roles) > MAX_ROLES or any(len(role) > MAX_ROLE_LENGTH for role in certificate.roles):
        raise _refuse(RefusalReason.MALFORMED, f"the certificate of {certificate.name!r} has impossible roles")


def _check_mesh(certificate: Certificate, mesh_id: str) -> None:
    if certificate.mesh_id != mesh_id:
        raise _refuse(
            RefusalReason.OTHER_MESH,
            f"the certificate of {certificate.name!r} belongs to another mesh than this one ({mesh_id[:8]}...)",
        )


def _check_signatures(links: Sequence[SignedCertificate], authority_public: bytes, is_genuine: SignatureCheck) -> None:
    signer = authority_public
    for link in reversed(links):
        if not is_genuine(signer, link.signed_bytes, link.signature):
            raise _refuse(RefusalReason.FORGED, f"the certificate of {link.certificate.name!r} has a false signature")
        signer = link.certificate.signing_key


def _check_root(root: Certificate) -> None:
    # A name with a slash belongs to whoever has the part before it, so the authority itself never signs one.
    if root.issuer != AUTHORITY or "/" in root.name:
        raise _refuse(RefusalReason.FORGED, f"the certificate of {root.name!r} must be shown with its issuer's")


def _check_delegated_name(leaf: Certificate, issuer: Certificate) -> None:
    if leaf.issuer != issuer.name or not leaf.name.startswith(f"{issuer.name}/"):
        raise _refuse(RefusalReason.FORGED, f"{issuer.name!r} cannot sign for {leaf.name!r}, only {issuer.name}/...")


def _check_delegated_period(leaf: Certificate, issuer: Certificate) -> None:
    if leaf.not_before_ms < issuer.not_before_ms or leaf.not_after_ms > issuer.not_after_ms:
        raise _refuse(RefusalReason.FORGED, f"the certificate of {leaf.name!r} reaches beyond that of its issuer")
    if leaf.not_after_ms - leaf.not_before_ms > MAX_DELEGATED_LIFE_MS:
        raise _refuse(RefusalReason.FORGED, f"the delegated certificate of {leaf.name!r} lives longer than 30 days")


def _check_delegated_roles(leaf: Certificate, issuer: Certificate) -> None:
    if not set(leaf.roles) <= set(issuer.roles):
        raise _refuse(RefusalReason.FORGED, f"{issuer.name!r} gave {leaf.name!r} a role that it does not have itself")


def _check_started(certificate: Certificate, now_ms: int) -> None:
    if now_ms < certificate.not_before_ms - CLOCK_GRACE_MS:
        raise _refuse(
            RefusalReason.NOT_YET_VALID,
            f"by the clock here, the certificate of {certificate.name!r} becomes valid only in "
            f"{show_span(certificate.not_before_ms - now_ms)}: set the clock of whichever machine is wrong",
        )


def _check_not_expired(certificate: Certificate, now_ms: int) -> None:
    if now_ms > certificate.not_after_ms:
        raise _refuse(
            RefusalReason.EXPIRED,
            f"by the clock here, the certificate of {certificate.name!r} expired "
            f"{show_span(now_ms - certificate.not_after_ms)} ago: renew it, or set the clock if it is wrong",
        )
