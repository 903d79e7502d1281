"""``Authority``: the key that makes members of a mesh, on the machine that founded it.

It signs certificates for nodes, makes invitations, and redeems each of them once. A name belongs to the keys that it
was first certified for: no invitation can take the name of a member.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from zmesh.core.trust.certificate import AUTHORITY, KEY_BYTES, NAME_PATTERN, Certificate
from zmesh.core.trust.rules import show_span
from zmesh.errors import InvitationError, KeystoreError, UsageError
from zmesh.security.certificate import encode_chain, sign
from zmesh.security.invitation import (
    INVITATION_ID_BYTES,
    MAX_ADDRESSES,
    MAX_JOIN_STRING,
    SECRET_BYTES,
    EnrolAnswer,
    EnrolRequest,
    Invitation,
    make_join_string,
    proof_for,
    seal_answer,
)
from zmesh.security.keys import curve_public_of, holder_of, mesh_id_of, signing_public_of, z85_decode
from zmesh.security.ledger import DAY_MS, Ledger, LedgerFile, OpenInvitation
from zmesh.security.masking import HoldsSecrets
from zmesh.security.stored import AuthorityFile, MeshFile

__all__ = ["NODE_LIFE_MS", "Authority", "NameTaken", "numbered"]

NODE_LIFE_MS = 365 * DAY_MS
MAX_INVITATIONS = 1000  # open or remembered at a time
MAX_VALID_MS = 30 * DAY_MS  # an invitation that lies about for longer is a key under the doormat
MAX_NAMES_TRIED = 1000
MAX_NAME_LENGTH = 63
_AGAIN = "make a new one with `zmesh invite`"


class NameTaken(KeystoreError):
    """The name is another machine's."""


class Authority(HoldsSecrets):
    """Issues certificates and invitations. Every call blocks on the disk for some milliseconds.

    Safe between threads and processes. Raises ``KeystoreError`` where the disk fails.
    """

    def __init__(self, directory: Path, mesh: MeshFile, key: AuthorityFile) -> None:
        self._mesh = mesh
        self._signing_seed = key.signing_seed
        self._ledger = Ledger(directory)
        self.public = signing_public_of(key.signing_seed)  # Ed25519, 32 bytes
        self.mesh_id = mesh_id_of(self.public)

    def __repr__(self) -> str:
        return f"Authority(mesh={self._mesh.name!r}, mesh_id={self.mesh_id!r})"

    def issue(self, name: str, curve_public: bytes, signing_public: bytes, now_ms: int) -> bytes:
        """An encoded chain of one certificate, valid for a year. ``curve_public`` is Z85.

        Raises ``NameTaken`` (a ``KeystoreError``) where other keys have the name, ``KeystoreError`` for a name that
        only a node may sign (one with a slash).
        """
        _check_name(name)
        with self._ledger.transaction(now_ms) as ledger:
            if not ledger.may_have(name, holder_of(curve_public, signing_public)):
                raise NameTaken(f"the name {name!r} belongs to another machine of the mesh: choose another with --name")
            return self._sign(ledger, name, curve_public, signing_public, now_ms)

    def create_invitation(self, now_ms: int, valid_ms: int, addresses: Sequence[str]) -> str:
        """A join string for one new machine, good for ``valid_ms``. It is a secret.

        ``addresses`` ("tcp://HOST:PORT", at most 16, best first) are where nodes of this machine can be reached.
        Raises ``UsageError``.
        """
        _check_terms(valid_ms, addresses)
        invitation = Invitation(
            addresses=tuple(addresses),
            gate_public=curve_public_of(self._mesh.gate_secret),
            authority_public=self.public,
            mesh=self._mesh.name,
            mesh_id=self.mesh_id,
            invitation_id=os.urandom(INVITATION_ID_BYTES),
            secret=os.urandom(SECRET_BYTES),
            expires_ms=now_ms + valid_ms,
        )
        join_string = make_join_string(invitation)
        if len(join_string) > MAX_JOIN_STRING:
            raise UsageError("the addresses are too long for one invitation: give fewer")
        with self._ledger.transaction(now_ms) as ledger:
            if len(ledger.invitations) >= MAX_INVITATIONS:
                raise UsageError(f"there are {MAX_INVITATIONS} invitations already: wait until some have expired")
            ledger.invitations[invitation.invitation_id] = OpenInvitation(invitation.secret, invitation.expires_ms)
        return join_string

    def enrol(self, request: EnrolRequest, now_ms: int) -> EnrolAnswer:
        """Redeem an invitation: the answer for the joiner. Raises ``InvitationError``.

        The invitation is marked as used on the disk before this returns. The same joiner may ask again, in case
        the answer was lost on the way; nobody else may. The caller must have checked that ``request.curve_public`` is
        the key that the asking connection was authenticated with.
        """
        holder = _check_request(request)
        with self._ledger.transaction(now_ms) as ledger:
            invitation = ledger.invitations.get(request.invitation_id)
            if invitation is None:
                raise InvitationError(f"the invitation is unknown here, or expired long ago: {_AGAIN}")
            _check_proof(request, invitation)
            _check_unused(invitation, holder)
            _check_unexpired(invitation, now_ms)
            invitation.used_by = holder
            name = _free_name(ledger, request.name, holder)
            certificate = self._sign(ledger, name, request.curve_public, request.signing_public, now_ms)
            return seal_answer(certificate, self._mesh.gate_secret, request.curve_public)

    def _sign(self, ledger: LedgerFile, name: str, curve_public: bytes, signing_public: bytes, now_ms: int) -> bytes:
        not_after_ms = now_ms + NODE_LIFE_MS
        certificate = Certificate(
            mesh_id=self.mesh_id,
            name=name,
            serial=ledger.record(name, holder_of(curve_public, signing_public), not_after_ms),
            curve_key=z85_decode(curve_public),
            signing_key=signing_public,
            issuer=AUTHORITY,
            not_before_ms=now_ms,
            not_after_ms=not_after_ms,
        )
        return encode_chain([sign(certificate, self._signing_seed)])


def numbered(name: str, first: int = 2) -> Iterator[str]:
    """``name``, ``name-2``, ``name-3`` ..., cut so that each is a legal name; a finite number of them."""
    others = (f"-{number}" for number in count(first))
    for suffix, _ in zip(chain([""], others), range(MAX_NAMES_TRIED), strict=False):
        yield name[: MAX_NAME_LENGTH - len(suffix)] + suffix


def _check_name(name: str) -> None:
    if not NAME_PATTERN.fullmatch(name) or "/" in name:
        raise KeystoreError(f"the mesh authority cannot certify the name {name!r}: use letters, digits, '.', '_', '-'")


def _check_terms(valid_ms: int, addresses: Sequence[str]) -> None:
    if not 0 < valid_ms <= MAX_VALID_MS:
        raise UsageError(f"an invitation must be valid for some time, and for {MAX_VALID_MS // DAY_MS} days at most")
    if not 1 <= len(addresses) <= MAX_ADDRESSES:
        raise UsageError(
            f"an invitation needs 1 to {MAX_ADDRESSES} addresses at which this machine can be reached, "
            f"not {len(addresses)}: start zmesh-node first"
        )


def _check_request(request: EnrolRequest) -> bytes:
    if not NAME_PATTERN.fullmatch(request.name) or "/" in request.name:
        raise InvitationError("the name that the machine asks for is not a node name: choose another with --name")
    if len(request.signing_public) != KEY_BYTES:
        raise InvitationError("the enrolment request has a signing key of the wrong size")
    try:
        return holder_of(request.curve_public, request.signing_public)
    except ValueError:
        raise InvitationError("the enrolment request has no proper CURVE key") from None


def _check_proof(request: EnrolRequest, invitation: OpenInvitation) -> None:
    expected = proof_for(
        invitation.secret, request.invitation_id, request.name, request.curve_public, request.signing_public
    )
    if not hmac.compare_digest(expected, request.proof):
        raise InvitationError(f"the machine could not prove that it holds the invitation: {_AGAIN}")


def _check_unused(invitation: OpenInvitation, holder: bytes) -> None:
    if invitation.used_by not in (b"", holder):
        raise InvitationError(f"the invitation was used already by another machine: {_AGAIN}")


def _check_unexpired(invitation: OpenInvitation, now_ms: int) -> None:
    if now_ms > invitation.expires_ms:
        raise InvitationError(f"the invitation expired {show_span(now_ms - invitation.expires_ms)} ago: {_AGAIN}")


def _free_name(ledger: LedgerFile, wanted: str, holder: bytes) -> str:
    for name in numbered(wanted):
        if ledger.may_have(name, holder):
            return name
    raise InvitationError(f"the name {wanted!r} and every numbered form of it are taken: choose another with --name")
