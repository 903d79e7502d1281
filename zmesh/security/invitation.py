"""Join strings and the two messages of an enrolment (docs/spec/04-trust.md, sections 5 and 6).

The joining machine proves with an HMAC that it holds the invitation's secret; the HMAC covers its name and keys, so a
listener can neither learn the secret nor bind the invitation to other keys. The answer is sealed to the joiner's
CURVE key, and believed only if it holds a certificate by the authority that the join string named.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field

import msgspec
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from zmesh.core.trust.certificate import NAME_PATTERN, CertificateRefused
from zmesh.errors import InvitationError
from zmesh.security.keys import NodeKeys, curve_public_of, mesh_id_of, z85_decode, z85_encode
from zmesh.security.masking import HoldsSecrets
from zmesh.security.verifier import Verifier

__all__ = [
    "EnrolAnswer",
    "EnrolRequest",
    "Enrolled",
    "Invitation",
    "make_join_string",
    "make_request",
    "open_answer",
    "parse_join_string",
    "proof_for",
    "seal_answer",
]

PREFIX = "zmesh1."
MAX_JOIN_STRING = 4096  # characters: sixteen long addresses fit
MAX_ADDRESSES = 16
INVITATION_ID_BYTES = 16
SECRET_BYTES = 32
CHECKSUM_BYTES = 4  # tells a mistyped or cut string from a wrong one; it guards against accidents only
MAX_ANSWER_BYTES = 8192
_PROOF_CONTEXT = "zmesh enrol 1"
_ANOTHER = "ask for a new one with `zmesh invite` on the machine that founded the mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation(HoldsSecrets):
    """What a join string says."""

    addresses: tuple[str, ...]  # "tcp://HOST:PORT" of nodes that can enrol, best first
    gate_public: bytes  # Z85: the server key of the introduction port
    authority_public: bytes
    mesh: str
    mesh_id: str
    invitation_id: bytes
    secret: bytes = field(repr=False, compare=False)
    expires_ms: int  # by the authority's clock, which alone decides


@dataclass(frozen=True, slots=True)
class EnrolRequest:
    """Make me a member: I hold the invitation, and these are my name and keys. Holds nothing secret."""

    invitation_id: bytes  # 16 bytes
    name: str
    curve_public: bytes  # Z85
    signing_public: bytes  # 32 bytes
    proof: bytes  # 32 bytes


@dataclass(frozen=True, slots=True)
class EnrolAnswer:
    """You are a member. Only the joiner's CURVE secret key opens ``sealed``."""

    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled(HoldsSecrets):
    """A verified answer with the joiner's keys: what ``Keystore.save_enrolled`` stores."""

    name: str  # the authority's choice: the one asked for, with a number if another machine has it
    mesh: str
    authority_public: bytes
    gate_secret: bytes = field(repr=False, compare=False)
    keys: NodeKeys
    certificate: bytes


class _JoinBody(HoldsSecrets, msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    addresses: tuple[str, ...]
    gate_public: bytes  # raw
    authority_public: bytes
    mesh: str
    invitation_id: bytes
    secret: bytes
    expires_ms: int


class _AnswerBody(HoldsSecrets, msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    certificate: bytes
    gate_secret: bytes  # raw


def make_join_string(invitation: Invitation) -> str:
    """The invitation as one word to copy to the other machine."""
    body = msgspec.msgpack.encode(
        _JoinBody(
            invitation.addresses,
            z85_decode(invitation.gate_public),
            invitation.authority_public,
            invitation.mesh,
            invitation.invitation_id,
            invitation.secret,
            invitation.expires_ms,
        )
    )
    return PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).rstrip(b"=").decode()


def parse_join_string(text: str) -> Invitation:
    """What a join string says. Raises ``InvitationError``, whose text never holds any of it.

    Expiry is not looked at: this machine's clock may be wrong, and the authority decides by its own.
    """
    text = text.strip()
    if not text.startswith(PREFIX):
        raise InvitationError(f"a join string starts with {PREFIX!r}; this one does not: copy the whole line again")
    if len(text) > MAX_JOIN_STRING:
        raise InvitationError(f"the join string has more than {MAX_JOIN_STRING} characters: copy only the one line")
    try:
        body = _decode_join_body(text.removeprefix(PREFIX))
        return _invitation(body)
    except (ValueError, msgspec.DecodeError):
        # ``from None``: the cause's text or locals could quote the secret.
        raise InvitationError("the join string is damaged or incomplete: copy the whole line again") from None


def make_request(invitation: Invitation, name: str, keys: NodeKeys) -> EnrolRequest:
    """The request of a joiner that wants to be called ``name``."""
    proof = proof_for(invitation.secret, invitation.invitation_id, name, keys.curve_public, keys.signing_public)
    return EnrolRequest(invitation.invitation_id, name, keys.curve_public, keys.signing_public, proof)


def proof_for(secret: bytes, invitation_id: bytes, name: str, curve_public: bytes, signing_public: bytes) -> bytes:
    """HMAC-SHA256 under the invitation's secret over all that the request asks for."""
    fields = (_PROOF_CONTEXT, invitation_id, name, z85_decode(curve_public), signing_public)
    return hmac.digest(secret, msgspec.msgpack.encode(fields), "sha256")


def seal_answer(certificate: bytes, gate_secret: bytes, curve_public: bytes) -> EnrolAnswer:
    """The authority's answer, readable by the holder of ``curve_public``'s secret only. Keys are Z85.

    Raises ``InvitationError`` for the few numbers that are no X25519 public key.
    """
    body = msgspec.msgpack.encode(_AnswerBody(certificate, z85_decode(gate_secret)))
    try:
        return EnrolAnswer(SealedBox(PublicKey(z85_decode(curve_public))).encrypt(body))
    except CryptoError:
        raise InvitationError("the enrolment request has no proper CURVE key") from None


def open_answer(invitation: Invitation, keys: NodeKeys, answer: EnrolAnswer, now_ms: int) -> Enrolled:
    """What the answer gives, verified against the keys in the join string. Raises ``InvitationError``."""
    body = _unseal(answer, keys)
    try:
        gate_secret = z85_encode(body.gate_secret)
        gate_public = curve_public_of(gate_secret)
    except ValueError:
        raise InvitationError(f"the answer to the invitation cannot be read: {_ANOTHER}") from None
    if gate_public != invitation.gate_public:
        raise InvitationError(f"the answer came from another mesh than the join string names: {_ANOTHER}")
    verifier = Verifier(invitation.mesh_id, invitation.authority_public)
    try:
        verified = verifier.verify(body.certificate, now_ms, keys.curve_public)
    except CertificateRefused as refusal:
        raise InvitationError(f"the certificate in the answer to the invitation is no good: {refusal}") from None
    if verified.signing_public != keys.signing_public:
        raise InvitationError(f"the certificate in the answer is for another signing key: {_ANOTHER}")
    return Enrolled(
        name=verified.name,
        mesh=invitation.mesh,
        authority_public=invitation.authority_public,
        gate_secret=gate_secret,
        keys=keys,
        certificate=body.certificate,
    )


def _unseal(answer: EnrolAnswer, keys: NodeKeys) -> _AnswerBody:
    if len(answer.sealed) > MAX_ANSWER_BYTES:
        raise InvitationError(f"the answer to the invitation has more than {MAX_ANSWER_BYTES} bytes: {_ANOTHER}")
    try:
        opened = SealedBox(PrivateKey(z85_decode(keys.curve_secret))).decrypt(answer.sealed)
        return msgspec.msgpack.decode(opened, type=_AnswerBody)
    except (CryptoError, msgspec.DecodeError, UnicodeDecodeError):
        raise InvitationError(f"the answer to the invitation cannot be read: {_ANOTHER}") from None


def _decode_join_body(encoded: str) -> _JoinBody:
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if not hmac.compare_digest(checksum, _checksum(body)):
        raise ValueError("checksum")
    return msgspec.msgpack.decode(body, type=_JoinBody)


def _invitation(body: _JoinBody) -> Invitation:
    if len(body.addresses) > MAX_ADDRESSES or len(body.authority_public) != 32 or len(body.gate_public) != 32:
        raise ValueError("sizes")
    if not NAME_PATTERN.fullmatch(body.mesh) or "/" in body.mesh:
        raise ValueError("mesh name")  # it may become the name of a directory
    if len(body.invitation_id) != INVITATION_ID_BYTES or len(body.secret) != SECRET_BYTES:
        raise ValueError("sizes")
    return Invitation(
        addresses=body.addresses,
        gate_public=z85_encode(body.gate_public),
        authority_public=body.authority_public,
        mesh=body.mesh,
        mesh_id=mesh_id_of(body.authority_public),
        invitation_id=body.invitation_id,
        secret=body.secret,
        expires_ms=body.expires_ms,
    )


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body).digest()[:CHECKSUM_BYTES]
