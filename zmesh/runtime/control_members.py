"""Drives the membership machine over the control sockets: one ROUTER that receives, one DEALER for each neighbour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import Contact, MemberEventKind, NodeRecord, contact_of
from zmesh.core.membership.messages import (
    Heartbeat,
    Knock,
    KnockOutcome,
    MembershipEffect,
    MembershipMessage,
    NotifyMember,
    NotifyRecord,
    ReportIncident,
    Send,
    SendAll,
)
from zmesh.core.membership.statements import Alive
from zmesh.errors import MessageTooLarge, ProtocolViolation
from zmesh.model import now_ms
from zmesh.runtime.admission import Admitted
from zmesh.runtime.control_inbox import ControlInbox
from zmesh.runtime.control_knocks import Knocks
from zmesh.runtime.control_outgoing import Outgoing
from zmesh.runtime.control_parts import MemberParts
from zmesh.runtime.control_settings import membership_settings
from zmesh.runtime.control_telling import ENDS, Telling
from zmesh.runtime.control_ways import Ways
from zmesh.runtime.peer import Route
from zmesh.security import CertificateRefused, VerifiedCertificate
from zmesh.security.notary import NodeNotary
from zmesh.wire.membership import decode_membership
from zmesh.wire.record import encode_record

__all__ = ["Members"]

REVIEW_INTERVAL_S: Final = 1.0


class Members:
    """The members of the mesh, and what is said to and by them. Used on the control thread alone."""

    def __init__(self, parts: MemberParts) -> None:
        self.record = parts.record
        settings = membership_settings(parts.timings)
        notary = NodeNotary(parts.identity, parts.verifier, now_ms)
        own = Alive(contact_of(parts.record), 0, parts.record.version, b"", parts.record.certificate)
        data = encode_record(parts.record)
        self._machine = Membership(own, settings, notary, parts.chance, record=data)
        self._verifier = parts.verifier
        self._allowed = parts.allowed
        self._incidents = parts.incidents
        self._links = parts.links
        self._clock = parts.clock
        self._forget_after_s = settings.forget_after_s
        self._inbox = ControlInbox(parts.router, parts.allowed, parts.incidents, self._take)
        self._ways = Ways(parts.links, parts.allowed, parts.clock, parts.timings.redial_interval_s)
        self._ways.incarnation_of = self._incarnation_of
        self._outgoing = Outgoing(parts.record.node_id, self._ways, parts.incidents, parts.clock)
        self._telling = Telling(parts.links, parts.allowed, parts.notify, lambda: not self._machine.view.is_near)
        self._knocks = Knocks(parts.reactor, parts.clock, settings.knock_wait_s, self._knocked)
        self._lost: Callable[[str], None] = lambda node_id: None
        self._strangers: dict[str, float] = {}  # admitted, and no members: since when
        self._signs = parts.signs
        self._confirmed_ms = 0  # when a neighbour was last heard to be in the view that this node is in
        self._review_at = parts.clock()

    def last_heard_ms(self, node_id: str) -> int | None:
        """When the node was last heard of, in ms since the epoch. Safe from any thread.

        Of a member that others watch, the last time that a neighbour said to be in our view, which has it.
        """
        # A view is never changed, only replaced; that it remembers who its neighbours are harms no other thread.
        heard_ms, view = self._inbox.heard_ms.get(node_id), self._machine.view
        if node_id in view.members and node_id not in view.neighbours(self.record.node_id):
            return max(heard_ms or 0, self._confirmed_ms) or None
        return heard_ms

    @property
    def received(self) -> int:
        """How many frames have come."""
        return self._inbox.received

    @property
    def view_size(self) -> int:
        """How many members there are, this node included; read from other threads."""
        return len(self._machine.view)

    @property
    def view_digest(self) -> int:
        """Equal at two nodes that know the same members; read from other threads."""
        return self._machine.view.digest

    def connect(self, meet: Callable[[Contact], None], lost: Callable[[str], None]) -> None:
        """Say who dials a contact, and who wants to know of members that die or leave."""
        self._ways.meet, self._lost = meet, lost

    @property
    def own_contact(self) -> Contact:
        """How others may dial this node."""
        return contact_of(self.record)

    def refuses(self, contact: Contact) -> str:
        """See ``Membership.refuses``."""
        return self._machine.refuses(contact)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, by the clock given."""
        due = self._machine.next_deadline()
        knock_due = self._knocks.next_deadline()
        if due is None:
            return None
        return min(due, self._review_at, due if knock_due is None else knock_due)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def handle_timeout(self) -> None:
        """Do what has fallen due."""
        now = self._clock()
        self._knocks.handle_timeout()
        due = self._machine.next_deadline()
        if due is not None and due <= now:
            self._note_traffic()
            self._do(self._machine.handle_timeout(self._clock()))
        if self._review_at <= now:
            self._review_at = now + REVIEW_INTERVAL_S
            self._review(now)

    def _note_traffic(self) -> None:
        """Who is heard on the data plane lives: before somebody is suspected, and with each heartbeat."""
        signs, members = self._signs, self._machine.view.members
        publishers = (self._allowed.by_key(key) for key in signs.take_keys())
        names = [*signs.take_names(), *(admitted.node_id for admitted in publishers if admitted is not None)]
        heard = [name for name in names if name in members]
        if heard:
            self._inbox.heard_ms.update(dict.fromkeys(heard, now_ms()))
            self._do(self._machine.heard(self._clock(), heard))

    def handle_frames(self) -> None:
        """Take in what members have sent."""
        self._inbox.handle()

    def greeted(self, contact: Contact) -> None:
        """A verified hello came from this node."""
        self._meet(contact)

    def introduced(self, verified: VerifiedCertificate, certificate: bytes, contact: Contact, route: Route) -> None:
        """The node was met at ``route``."""
        self._allowed.admit(verified, certificate)
        self._ways.met(contact, route)
        self._telling.settle(contact.node_id)
        self._meet(contact)

    def introduction_failed(self, node_id: str) -> None:
        """The node could not be met."""
        self._ways.failed(node_id)

    def disconnected(self, node_id: str) -> None:
        """A connection with the node closed."""
        member = self._machine.view.members.get(node_id)
        if member is not None and node_id != self.record.node_id and self._may_be_elsewhere(member.contact):
            self._ways.doubt(member.contact)
        self._do(self._machine.disconnected(self._clock(), node_id))

    def _may_be_elsewhere(self, contact: Contact) -> bool:
        """Whether to look for another way. In a wide view not where there is none: that can be a storm of dials."""
        return self._machine.view.is_near or len(contact.hosts) > 1

    def connection_closed(self, descriptor: int) -> None:
        """An incoming control connection closed. That says nothing of our way there: those not used are closed."""
        node_id = self._inbox.closed(descriptor)
        if node_id is not None:
            self._do(self._machine.disconnected(self._clock(), node_id))

    def find(self, node_id: str) -> None:
        """Something is to be sent to the node: look for the way. A notice tells of it, unless one has before."""
        member = self._machine.view.members.get(node_id)
        if member is not None and node_id != self.record.node_id:
            self._ways.look(member.contact, is_member=True)
            self._telling.settle(node_id)

    def update_record(self, record: NodeRecord) -> None:
        """This node says something new of itself."""
        try:
            data = encode_record(record)
        except MessageTooLarge as error:
            reason = f"peers cannot be told of this node's agents: {error}"
            self._incidents.report("record_too_large", record.node_id, reason)
            return
        self.record = record
        contact, certificate = contact_of(record), record.certificate
        self._do(self._machine.restate(self._clock(), contact=contact, record=data, certificate=certificate))

    def leave(self) -> None:
        """Say goodbye."""
        self._do(self._machine.leave(self._clock()))

    def close(self) -> None:
        """Free what has been opened."""
        self._knocks.close()

    def _meet(self, contact: Contact) -> None:
        if contact.node_id not in self._machine.view.members:
            self._strangers[contact.node_id] = self._clock()
        self._do(self._machine.meet(self._clock(), contact))

    def _take(self, admitted: Admitted, payload: bytes) -> None:
        message = decode_membership(payload)
        self._outgoing.knows_us(admitted.node_id)
        if type(message) is Heartbeat and message.digest == self._machine.view.digest:
            self._confirmed_ms = self._inbox.heard_ms[admitted.node_id]
        self._do(self._machine.receive(self._clock(), admitted.node_id, message))

    def _knocked(self, node_id: str, outcome: KnockOutcome) -> None:
        self._do(self._machine.knocked(self._clock(), node_id, outcome))

    def _review(self, now: float) -> None:
        """Look again for ways not found; let go of connections not used, and of those that are gone for good."""
        for alive in self._telling.without_a_way():
            if self._machine.view.is_near:
                self._ways.look(alive.contact, is_member=True)
            self._telling.settle(alive.node_id)
        self._ways.review()
        for node_id in [node_id for node_id, at in self._strangers.items() if now - at >= self._forget_after_s]:
            del self._strangers[node_id]
            self._ways.forget(node_id)
            self._allowed.forget(node_id)
            self._inbox.heard_ms.pop(node_id, None)

    # -- effects -----------------------------------------------------------------------------------------------------

    def _do(self, effects: Sequence[MembershipEffect]) -> None:
        for effect in effects:
            match effect:
                case SendAll(to_all, message):
                    for to in to_all:
                        self._send(to, message)
                case Send(to, message):
                    self._send(to, message)
                case Knock(to):
                    self._knock(to)
                case NotifyMember(kind, alive, reason):
                    self._tell(kind, alive, reason)
                case NotifyRecord(alive, record):
                    self._tell_record(alive, record)
                case ReportIncident(kind_of_incident, source, reason):
                    self._incidents.report(kind_of_incident, source, reason)

    def _send(self, to: Contact, message: MembershipMessage) -> None:
        self._outgoing.send(to, message, is_member=to.node_id in self._machine.view.members)

    def _incarnation_of(self, node_id: str) -> int | None:
        return member.incarnation if (member := self._machine.view.members.get(node_id)) else None

    def _knock(self, to: Contact) -> None:
        route = self._links.route_of(to.node_id)
        if route is not None:
            self._knocks.knock(to.node_id, route)

    def _tell(self, kind: MemberEventKind, alive: Alive, reason: str) -> None:
        node_id = alive.node_id
        if kind not in ENDS:
            is_met = self._strangers.pop(node_id, None) is not None
            if kind is MemberEventKind.JOINED and not is_met and not self._allowed.by_name(node_id):
                self._outgoing.joined(node_id)
            self._admit(alive)
            self._ways.settled(node_id)
            if self._machine.view.is_near:
                self._ways.look(alive.contact, is_member=True)
            else:
                self._ways.note(alive.contact)
        self._telling.member(kind, alive, reason)
        if kind in ENDS:
            self._strangers[node_id] = self._clock()
            self._outgoing.knows_us(node_id)
            self._ways.lost(node_id)
            self._lost(node_id)

    def _tell_record(self, alive: Alive, record: bytes) -> None:
        try:
            self._telling.record(alive, record)
        except ProtocolViolation as violation:
            reason = f"the record of {alive.node_id} was dropped: {violation}"
            self._incidents.report(violation.reason, alive.node_id, reason)

    def _admit(self, alive: Alive) -> None:
        """ZAP lets in whom the view has; the statement's signature was checked against this certificate."""
        admitted = self._allowed.by_name(alive.node_id)
        if admitted is not None and admitted.certificate == alive.certificate:
            return
        try:
            verified = self._verifier.verify(alive.certificate, now_ms())
        except CertificateRefused as refusal:
            self._incidents.report("refused_certificate", alive.node_id, str(refusal))
            return
        self._allowed.admit(verified, alive.certificate)
