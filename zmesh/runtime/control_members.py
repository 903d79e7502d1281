"""Drives the membership machine over the control sockets: one ROUTER that receives, one DEALER for each member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from zmesh.config import Timings
from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import MembershipTimings, contact_of
from zmesh.core.membership.messages import (
    Contact,
    Contacts,
    ControlMessage,
    Forget,
    Introduce,
    MemberEvent,
    MemberEventKind,
    MembershipEffect,
    NodeRecord,
    Notify,
    RecordAnswer,
    Report,
    SendControl,
)
from zmesh.errors import MessageTooLarge, ProtocolViolation
from zmesh.model import now_ms
from zmesh.runtime.control_inbox import ControlInbox
from zmesh.runtime.control_interface import MemberParts
from zmesh.runtime.control_links import Route
from zmesh.runtime.control_notices import PeerNotice
from zmesh.runtime.zap import Admitted
from zmesh.security import CertificateRefused, VerifiedCertificate
from zmesh.wire.control import decode_control, encode_control

__all__ = ["Members"]


class Members:
    """The members of the mesh, and what is said to and by them. Used on the control thread alone."""

    def __init__(self, parts: MemberParts) -> None:
        self.record = parts.record
        self._machine = Membership(parts.record, membership_timings(parts.timings), parts.chance)
        self._links = parts.links
        self._verifier = parts.verifier
        self._allowed = parts.allowed
        self._incidents = parts.incidents
        self._clock = parts.clock
        self._notify = parts.notify
        self._inbox = ControlInbox(parts.router, parts.allowed, parts.incidents, self._take)
        self._meet: Callable[[Contact], None] = lambda contact: None
        self._lost: Callable[[str], None] = lambda node_id: None
        self._encoded: tuple[int, bytes] = (0, b"")  # this node's record, by version

    @property
    def heard_ms(self) -> dict[str, int]:
        """When each node was last heard of, by the wall clock; read from other threads."""
        return self._inbox.heard_ms

    @property
    def received(self) -> int:
        """How many frames have come."""
        return self._inbox.received

    @property
    def view_size(self) -> int:
        """How many members there are, this node included; read from other threads."""
        return len(self._machine.live_records()) + 1

    @property
    def view_digest(self) -> int:
        """Not told by this machine."""
        return 0

    def connect(self, meet: Callable[[Contact], None], lost: Callable[[str], None]) -> None:
        """Say who dials a contact, and who wants to know of members that die or leave."""
        self._meet, self._lost = meet, lost

    @property
    def own_contact(self) -> Contact:
        """How others may dial this node."""
        return contact_of(self.record)

    def refuses(self, contact: Contact) -> str:
        """See ``Membership.refuses``."""
        return self._machine.refuses(contact)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, by the clock given."""
        return self._machine.next_deadline()

    # -- inputs ------------------------------------------------------------------------------------------------------

    def handle_timeout(self) -> None:
        """Do what has fallen due."""
        self._do(self._machine.handle_timeout(self._clock()))

    def handle_frames(self) -> None:
        """Take in what members have sent."""
        self._inbox.handle()

    def greeted(self, contact: Contact) -> None:
        """A verified hello came from this node."""
        self._do(self._machine.receive(self._clock(), contact.node_id, Contacts((contact,))))

    def introduced(self, verified: VerifiedCertificate, certificate: bytes, contact: Contact, route: Route) -> None:
        """The node was met at ``route``."""
        self._allowed.admit(verified, certificate)
        self._links.set_route(contact.node_id, route)
        first = replace(contact, hosts=(route.host, *contact.hosts))
        self._do(self._machine.introduced(self._clock(), first))

    def introduction_failed(self, node_id: str) -> None:
        """The node could not be met."""
        self._do(self._machine.introduction_failed(self._clock(), node_id))

    def disconnected(self, node_id: str) -> None:
        """A connection with the node closed."""
        self._do(self._machine.disconnected(self._clock(), node_id))

    def connection_closed(self, descriptor: int) -> None:
        """An incoming control connection closed."""
        node_id = self._inbox.closed(descriptor)
        if node_id is not None:
            self.disconnected(node_id)

    def update_record(self, record: NodeRecord) -> None:
        """This node says something new of itself."""
        self.record = record
        self._do(self._machine.update_record(self._clock(), record))

    def leave(self) -> None:
        """Say goodbye."""
        self._do(self._machine.leave(self._clock()))

    def close(self) -> None:
        """Nothing is held here: the links and the ROUTER are the loop's."""

    # -- frames ------------------------------------------------------------------------------------------------------

    def _take(self, admitted: Admitted, payload: bytes) -> None:
        message = decode_control(payload)
        if isinstance(message, RecordAnswer):
            self._check_certificate(admitted, message.record)
        self._do(self._machine.receive(self._clock(), admitted.node_id, message))

    def _check_certificate(self, admitted: Admitted, record: NodeRecord) -> None:
        """A renewed certificate counts from when its node shows it."""
        if record.certificate == admitted.certificate:
            return
        try:
            verified = self._verifier.verify(record.certificate, now_ms(), admitted.curve_public)
        except CertificateRefused as refusal:
            raise ProtocolViolation("refused_certificate", str(refusal)) from None
        if verified.name != admitted.node_id:
            raise ProtocolViolation("refused_certificate", f"it is for {verified.name}")
        self._allowed.admit(verified, record.certificate)

    # -- effects -----------------------------------------------------------------------------------------------------

    def _do(self, effects: list[MembershipEffect]) -> None:
        for effect in effects:
            match effect:
                case SendControl(node_id, message):
                    self._send(node_id, message)
                case Introduce(contact):
                    self._meet(contact)
                case Notify(event):
                    self._tell(event)
                case Report(kind, source, reason):
                    self._incidents.report(kind, source, reason)
                case Forget(node_id):
                    self._links.forget(node_id)
                    self._allowed.forget(node_id)
                    self.heard_ms.pop(node_id, None)

    def _send(self, node_id: str, message: ControlMessage) -> None:
        try:
            frame = self._encode(message)
        except MessageTooLarge as error:
            self._incidents.report("record_too_large", node_id, f"peers cannot be told of this node's agents: {error}")
            return
        self._links.send(node_id, type(message).__name__, frame)

    def _encode(self, message: ControlMessage) -> bytes:
        if not isinstance(message, RecordAnswer):
            return encode_control(message)
        if self._encoded[0] != message.record.version:
            self._encoded = (message.record.version, encode_control(message))
        return self._encoded[1]

    def _tell(self, event: MemberEvent) -> None:
        node_id = event.record.node_id
        route = self._links.route_of(node_id)
        admitted = self._allowed.by_name(node_id)
        notice = PeerNotice(
            event=event,
            host=route.host if route is not None else "",
            curve_public=route.curve_public if route is not None else b"",
            fingerprint=admitted.fingerprint if admitted is not None else "",
        )
        if event.kind in (MemberEventKind.DIED, MemberEventKind.LEFT):
            self._links.close(node_id)
            self._lost(node_id)
        self._notify(notice)


def membership_timings(timings: Timings) -> MembershipTimings:
    """The part of the configuration that the machine wants."""
    return MembershipTimings(
        heartbeat_interval_s=timings.heartbeat_interval_s,
        suspect_after_s=timings.suspect_after_s,
        dead_after_s=timings.dead_after_s,
        forget_after_s=timings.forget_after_s,
        redial_interval_s=timings.redial_interval_s,
        redial_interval_max_s=timings.redial_interval_max_s,
    )
