"""Drives introductions: what the dialling machine wants dialled, and what strangers say when they dial this node."""

from __future__ import annotations

import random
from collections.abc import Callable

import zmq

from zmesh.config import Timings
from zmesh.core.introduction.dialler import Dialler
from zmesh.core.introduction.messages import (
    CloseDial,
    DialEffect,
    DialFailed,
    DialSucceeded,
    Hello,
    IntroductionMessage,
    OpenDial,
    Rejection,
    SeedUnanswered,
    Welcome,
)
from zmesh.core.membership.member import Contact
from zmesh.errors import ProtocolViolation
from zmesh.model import now_ms
from zmesh.runtime.admission import AllowList
from zmesh.runtime.control_members import Members
from zmesh.runtime.control_notices import IncidentLog
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.introduction import Dials
from zmesh.runtime.peer import Route
from zmesh.runtime.ports import endpoint
from zmesh.security import CertificateRefused, Identity, VerifiedCertificate, Verifier
from zmesh.wire.introduction import decode_introduction
from zmesh.wire.membership import CONTROL_VERSION

__all__ = ["Meetings"]

LOOPBACK = "127.0.0.1"
FAILURES_TOLD = 3  # failed handshakes of one dial: fewer may be a node that was just stopped
NOT_OURS = "what answers there is not a node of this mesh"
_WHY = {
    "duplicate_name": "a running node of the mesh has this name already: choose another",
    "superseded": "a node of this name that was started later is, or was lately, in the mesh: stop that one, or "
    "choose another name; after a clock was set back and the key directory lost, wait ten minutes and start again",
}


class Meetings:
    """Meets nodes on behalf of a ``Members``. Used on the control thread alone."""

    def __init__(
        self,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        identity: Identity,
        verifier: Verifier,
        timings: Timings,
        chance: random.Random,
        reactor: Reactor,
        members: Members,
        allowed: AllowList,
        incidents: IncidentLog,
        clock: Callable[[], float],
    ) -> None:
        self._mesh_id = identity.mesh_id
        self._verifier = verifier
        self._members = members
        self._allowed = allowed
        self._incidents = incidents
        self._clock = clock
        self._dialler = Dialler(timings.redial_interval_s, timings.redial_interval_max_s, chance)
        self._dials = Dials(context, identity, reactor, self._hello, self._on_answer, self._on_failure)
        self._failures: dict[int, int] = {}  # handshakes failed, by dial
        self._proved: dict[str, tuple[VerifiedCertificate, bytes]] = {}  # by name, while an answer is worked off
        self.completed = 0

    @property
    def opened(self) -> int:
        """How many connections have been tried."""
        return self._dials.opened

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, by the clock given."""
        return self._dialler.next_deadline()

    def handle_timeout(self) -> None:
        """Do what has fallen due."""
        self._do(self._dialler.handle_timeout(self._clock()))

    def meet(self, contact: Contact) -> None:
        """Dial this node at all its addresses."""
        near = (LOOPBACK,) if contact.machine and contact.machine == self._members.record.machine else ()
        self._do(self._dialler.dial_node(self._clock(), contact, (*near, *contact.hosts)))

    def dial(self, host: str, port: int, *, persistent: bool) -> None:
        """Dial whoever is at this address."""
        self._do(self._dialler.dial_address(self._clock(), host, port, persistent=persistent))

    def lost(self, node_id: str) -> None:
        """A member died or left."""
        self._do(self._dialler.lost(self._clock(), node_id))

    def close(self) -> None:
        """Give up all dials."""
        self._dials.close_all()

    def admit(self, verified: VerifiedCertificate, hello: Hello) -> IntroductionMessage:
        """The answer to a hello whose certificate is good."""
        contact = hello.contact
        refusal = self._members.refuses(contact)
        if refusal == "self":
            return Rejection("self", "this is the node that asks")
        if refusal:
            reason = f"a second node that calls itself {contact.node_id} was refused: {_WHY[refusal]}"
            self._incidents.report(refusal, contact.node_id, reason)
            return Rejection(refusal, _WHY[refusal])
        self._allowed.admit(verified, hello.certificate)
        self.completed += 1
        self._members.greeted(contact)
        return Welcome(CONTROL_VERSION, self._members.record.certificate, self._members.own_contact)

    def _hello(self) -> Hello:
        members = self._members
        return Hello((CONTROL_VERSION,), self._mesh_id, members.record.certificate, members.own_contact)

    # -- answers -----------------------------------------------------------------------------------------------------

    def _on_answer(self, dial: int, address: tuple[str, int], frame: bytes) -> None:
        if not self._dialler.is_open(dial):
            return
        try:
            answer = decode_introduction(frame)
        except ProtocolViolation as violation:
            self._refuse(dial, address, violation.reason, str(violation))
            return
        if isinstance(answer, Welcome):
            self._on_welcome(dial, address, answer)
        elif isinstance(answer, Rejection) and answer.code == "self":
            self._do(self._dialler.rejected(self._clock(), dial, "self", answer.detail))
        elif isinstance(answer, Rejection):
            self._refuse(dial, address, "refused_by_peer", answer.detail)
        else:
            self._refuse(dial, address, "malformed_frame", "it is no answer to a hello")

    def _on_welcome(self, dial: int, address: tuple[str, int], welcome: Welcome) -> None:
        contact = welcome.contact
        try:
            verified = self._verifier.verify(welcome.certificate, now_ms())
        except CertificateRefused as refusal:
            self._refuse(dial, address, "refused_certificate", str(refusal))
            return
        refused = self._members.refuses(contact)
        if verified.name != contact.node_id:
            self._refuse(dial, address, "refused_certificate", f"it is for {verified.name}, not {contact.node_id}")
        elif refused == "self":
            self._do(self._dialler.rejected(self._clock(), dial, "self", ""))
        elif refused:
            self._refuse(dial, address, refused, f"{contact.node_id}: {_WHY[refused]}")
        else:
            self._proved[contact.node_id] = (verified, welcome.certificate)
            self._do(self._dialler.answered(self._clock(), dial, contact, address[0]))
            self._proved.clear()

    def _refuse(self, dial: int, address: tuple[str, int], kind: str, reason: str) -> None:
        where = endpoint(*address)
        self._incidents.report(kind, where, f"the introduction at {where} came to nothing: {reason}")
        self._do(self._dialler.rejected(self._clock(), dial, kind, reason))

    def _on_failure(self, dial: int, address: tuple[str, int], reason: str) -> None:
        """The handshake failed, and is tried again; or, with a reason, there is nothing to try."""
        if reason:
            self._do(self._dialler.rejected(self._clock(), dial, "unreachable", reason))
            return
        self._dialler.explain(dial, NOT_OURS)
        self._failures[dial] = self._failures.get(dial, 0) + 1
        if self._failures[dial] == FAILURES_TOLD:
            where = endpoint(*address)
            self._incidents.report("foreign_mesh", where, f"cannot join by {where}: {NOT_OURS}")

    # -- effects -----------------------------------------------------------------------------------------------------

    def _do(self, effects: list[DialEffect]) -> None:
        for effect in effects:
            match effect:
                case OpenDial(dial, host, port):
                    self._dials.open(dial, host, port)
                case CloseDial(dial):
                    self._failures.pop(dial, None)
                    self._dials.close(dial)
                case DialSucceeded(contact, host, port):
                    self._succeed(contact, host, port)
                case DialFailed(node_id, _):
                    self._members.introduction_failed(node_id)
                case SeedUnanswered(host, port, reason):
                    where = endpoint(host, port)
                    self._incidents.report("seed_unanswered", where, f"{where}: {reason}; it is tried again")

    def _succeed(self, contact: Contact, host: str, port: int) -> None:
        verified, certificate = self._proved[contact.node_id]
        self.completed += 1
        # The control port is the introduction port's neighbour, as it was reached: section 1 of the specification.
        self._members.introduced(verified, certificate, contact, Route(host, port + 1, verified.curve_public))
