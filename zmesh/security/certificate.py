"""Certificates as bytes: encoding, signing, and decoding without trust (docs/spec/04-trust.md, section 2).

Decoding accepts one encoding only, the one that ``encode_chain`` makes, so that no bit of a chain can be changed
without it being noticed, not even one that no signature covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from zmesh.core.trust.certificate import Certificate, CertificateRefused, RefusalReason, SignedCertificate

__all__ = ["MAX_CHAIN_BYTES", "decode_chain", "encode_chain", "is_genuine", "sign"]

MAX_CHAIN_BYTES = 4096  # two links are about 500 bytes; strangers may not make us parse more than a page
_CONTEXT = b"zmesh certificate 1\0"  # a signature made for anything else is none here


class _Body(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    mesh_id: str
    name: str
    serial: int
    curve_key: bytes
    signing_key: bytes
    issuer: str
    not_before_ms: int
    not_after_ms: int
    roles: tuple[str, ...]


class _Link(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    body: bytes
    signature: bytes


_decode_links = msgspec.msgpack.Decoder(tuple[_Link, ...]).decode
_decode_body = msgspec.msgpack.Decoder(_Body).decode


def sign(certificate: Certificate, signing_seed: bytes) -> SignedCertificate:
    """The certificate signed with the issuer's key (an Ed25519 seed of 32 bytes)."""
    signed_bytes = _CONTEXT + _encode_body(certificate)
    return SignedCertificate(certificate, signed_bytes, SigningKey(signing_seed).sign(signed_bytes).signature)


def is_genuine(public_key: bytes, signed_bytes: bytes, signature: bytes) -> bool:
    """Whether this Ed25519 key made this signature over these bytes."""
    try:
        VerifyKey(public_key).verify(signed_bytes, signature)
    except CryptoError:
        return False
    return True


def encode_chain(links: Sequence[SignedCertificate]) -> bytes:
    """The bytes that travel: leaf first."""
    return msgspec.msgpack.encode([_Link(link.signed_bytes.removeprefix(_CONTEXT), link.signature) for link in links])


def decode_chain(data: bytes) -> list[SignedCertificate]:
    """The links of an encoded chain, none of them trusted yet. Raises ``CertificateRefused`` (malformed)."""
    if len(data) > MAX_CHAIN_BYTES:
        raise _malformed(f"it has {len(data)} bytes, {MAX_CHAIN_BYTES} at most are allowed")
    try:
        links = [_decode_link(link) for link in _decode_links(data)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(str(error)) from None
    if encode_chain(links) != data:
        raise _malformed("it is not in the one encoding allowed")
    return links


def _decode_link(link: _Link) -> SignedCertificate:
    certificate = Certificate(*msgspec.structs.astuple(_decode_body(link.body)))
    if _encode_body(certificate) != link.body:
        raise _malformed("it is not in the one encoding allowed")
    return SignedCertificate(certificate, _CONTEXT + link.body, link.signature)


def _encode_body(certificate: Certificate) -> bytes:
    return msgspec.msgpack.encode(
        _Body(
            certificate.mesh_id,
            certificate.name,
            certificate.serial,
            certificate.curve_key,
            certificate.signing_key,
            certificate.issuer,
            certificate.not_before_ms,
            certificate.not_after_ms,
            certificate.roles,
        )
    )


def _malformed(detail: str) -> CertificateRefused:
    return CertificateRefused(RefusalReason.MALFORMED, f"the certificate cannot be read: {detail}")
