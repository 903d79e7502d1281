"""The membership machine of a small mesh: every node heartbeats every other (docs/spec/02-control-plane.md).

Three rules carry the safety. What is believed of a node comes from that node alone, over its authenticated connection;
what third nodes say only makes us dial. A frame counts as life only for the incarnation it is from. And time in which
this node itself did not run is not silence of the others.

Each input takes the time, never earlier than the last, and returns effects in the order in which they must be done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from zmesh.core.membership.approach import Approach
from zmesh.core.membership.exchange import Exchange
from zmesh.core.membership.member import Link, Member, MembershipTimings, Status, contact_of
from zmesh.core.membership.messages import (
    Contact,
    Contacts,
    ControlMessage,
    Goodbye,
    Heartbeat,
    MemberEventKind,
    MembershipEffect,
    NodeRecord,
    RecordAnswer,
    RecordRequest,
)
from zmesh.core.membership.pulse import Pulse
from zmesh.core.membership.roster import Roster
from zmesh.errors import check

if TYPE_CHECKING:
    import random

__all__ = ["Membership"]


class Membership:
    """Who is in the mesh, as one node sees it. See the module for the shape of its inputs."""

    def __init__(self, record: NodeRecord, timings: MembershipTimings, random: random.Random) -> None:
        self._timings = timings
        self._roster = Roster(record, timings)
        self._approach = Approach(self._roster, timings, random)
        self._exchange = Exchange(self._roster, timings)
        self._pulse = Pulse(self._roster, timings, self._approach, self._exchange, random)
        self._due: float | None = None
        self._left = False

    # -- questions ---------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due; None before the first one, and after ``leave``."""
        return self._due

    def status_of(self, node_id: str) -> Status | None:
        """How a member stands; None for a stranger."""
        member = self._roster.get(node_id)
        return member.status if member is not None else None

    def live_records(self) -> list[NodeRecord]:
        """The records in force of the living, this node's own first."""
        return self._roster.live_records()

    def refuses(self, contact: Contact) -> str:
        """Why a node that calls itself this may not be introduced: "self", "duplicate_name", "superseded", or ""."""
        own = self._roster.record
        if contact.node_id == own.node_id:
            return "self" if contact.incarnation == own.incarnation else "duplicate_name"
        member = self._roster.get(contact.node_id)
        if member is None:
            return ""
        is_older = member.is_live and member.record is not None and contact.incarnation < member.record.incarnation
        return "superseded" if is_older or contact.incarnation == member.gone_incarnation else ""

    # -- inputs ------------------------------------------------------------------------------------------------------

    def receive(self, now: float, sender: str, message: ControlMessage) -> list[MembershipEffect]:
        """A message from the node that the connection authenticated as ``sender``.

        A hello counts as ``Contacts`` in which the sender names itself: the only message heeded from a stranger.
        """
        self._begin(now)
        if not self._left and sender != self._roster.record.node_id:
            member = self._roster.get(sender)
            if isinstance(message, Contacts):
                self._on_contacts(sender, message)
            elif member is not None:
                self._HANDLERS[type(message)](self, member, message)
        return self._end()

    def handle_timeout(self, now: float) -> list[MembershipEffect]:
        """Do what has fallen due. The first call starts the machine."""
        self._begin(now)
        if not self._left:
            self._pulse.handle_timeout()
        return self._end()

    def introduced(self, now: float, contact: Contact) -> list[MembershipEffect]:
        """Certificates were exchanged with this node.

        The first of ``contact.hosts`` is the address that answered, the rest are those the node gave.
        """
        self._begin(now)
        if not self._left and not self.refuses(contact):
            self._on_introduced(Link.from_introduced(contact))
        return self._end()

    def introduction_failed(self, now: float, node_id: str) -> list[MembershipEffect]:
        """Nobody of that name answered at any of the addresses."""
        self._begin(now)
        member = self._roster.get(node_id)
        if member is not None and not self._left:
            self._approach.failed(member)
        return self._end()

    def disconnected(self, now: float, node_id: str) -> list[MembershipEffect]:
        """A connection with that node closed: a hint that it is gone. It is asked at once, and must answer soon."""
        self._begin(now)
        member = self._roster.get(node_id)
        if member is not None and member.is_live and not self._left:
            self._on_disconnected(member)
        return self._end()

    def update_record(self, now: float, record: NodeRecord) -> list[MembershipEffect]:
        """This node's own record changed. Its version must have grown."""
        previous = self._roster.record
        check(record.incarnation == previous.incarnation, "an incarnation never changes while it lives")
        check(record.version > previous.version, "a record's version must grow")
        self._begin(now)
        self._roster.record = record
        if not self._left:
            self._roster.beat_soon()
            if contact_of(record) != contact_of(previous):
                self._announce_move()
        return self._end()

    def leave(self, now: float) -> list[MembershipEffect]:
        """Say goodbye to all. Nothing comes out of this machine afterwards."""
        self._begin(now)
        if not self._left:
            for member in self._roster:
                self._roster.send(member, Goodbye(self._roster.record.incarnation))
        self._left = True
        return self._end()

    # -- the frame of every input ------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        check(now >= self._roster.now, f"time went back from {self._roster.now} to {now}")
        late = now - self._due if self._due is not None else 0.0
        self._roster.now = now
        self._roster.effects = []
        if late > self._timings.heartbeat_interval_s:
            self._pulse.doubt_self(late)

    def _end(self) -> list[MembershipEffect]:
        self._due = None if self._left else self._pulse.next_deadline()
        return self._roster.effects

    # -- messages ----------------------------------------------------------------------------------------------------

    def _on_heartbeat(self, member: Member, message: Heartbeat) -> None:
        if self._is_stale(member, message.incarnation):
            return
        member.wanted = max(member.wanted, (message.incarnation, message.record_version))
        self._heard(member, message.incarnation)
        if message.answer:
            self._roster.send(member, self._roster.heartbeat())
        self._exchange.fetch(member)
        self._exchange.compare(member, message.contacts_digest)

    def _on_record_request(self, member: Member, _message: RecordRequest) -> None:
        self._roster.send(member, RecordAnswer(self._roster.record))

    def _on_record(self, member: Member, message: RecordAnswer) -> None:
        record = message.record
        if record.node_id != member.node_id:
            reason = f"{member.node_id} sent a record of {record.node_id}: it was dropped"
            self._roster.report(member, "forged_record", reason)
            return
        if self._is_stale(member, record.incarnation):
            return
        member.asked_at = None
        self._heard(member, record.incarnation)
        known = member.fresh or member.record
        if known is None or known.incarnation != record.incarnation or record.version > known.version:
            member.fresh = record
            self._settle(member)

    def _on_goodbye(self, member: Member, message: Goodbye) -> None:
        if not self._is_stale(member, message.incarnation):
            self._roster.become_left(member, message.incarnation)

    def _on_contacts(self, sender: str, message: Contacts) -> None:
        for contact in message.contacts:
            if contact.node_id == self._roster.record.node_id:
                self._roster.meet_namesake(contact)
            elif contact.hosts and not self.refuses(contact):
                self._learn(contact, is_direct=contact.node_id == sender)

    _HANDLERS: ClassVar[dict[type, Callable[[Membership, Member, Any], None]]] = {
        Heartbeat: _on_heartbeat,
        RecordRequest: _on_record_request,
        RecordAnswer: _on_record,
        Goodbye: _on_goodbye,
    }

    def _is_stale(self, member: Member, incarnation: int) -> bool:
        """Whether a message is from an incarnation that is over, and so says nothing about the present one."""
        if incarnation == member.gone_incarnation:
            return True
        if member.record is None or incarnation >= member.record.incarnation:
            return False
        if member.is_live:
            self._roster.tell_duplicate(member)
            return True
        # The dead may come back with a clock set back, but then by introducing themselves.
        return member.link is None or member.link.contact.incarnation != incarnation

    def _heard(self, member: Member, incarnation: int) -> None:
        member.heard_at = self._roster.now
        member.hinted_at = None
        is_same = member.record is not None and member.record.incarnation == incarnation
        if is_same and member.status in (Status.SUSPECT, Status.DEAD):
            self._roster.become_recovered(member)
            self._approach.dial_if_needed(member)  # it may have moved while it was away

    # -- introductions -----------------------------------------------------------------------------------------------

    def _learn(self, contact: Contact, *, is_direct: bool) -> None:
        member = self._roster.find_or_add(contact)
        if member is None:
            return
        member.mentioned_at = self._roster.now
        if is_direct:
            member.contact = contact
            if member.is_linked:
                self._heard(member, contact.incarnation)
            self._approach.dial_if_needed(member)
        else:
            self._approach.learn_from_other(member, contact)

    def _on_introduced(self, link: Link) -> None:
        member = self._roster.find_or_add(link.contact)
        if member is None:
            return
        previous, member.link = member.link, link
        member.contact = link.contact
        member.dialling = None
        member.is_link_doubtful = False
        member.redial_at = None if member.is_live else self._roster.now + self._timings.dead_after_s
        self._roster.send(member, self._roster.heartbeat(answer=True))
        self._roster.send(member, RecordAnswer(self._roster.record))
        if member.is_live and previous is not None and previous.host != link.host and member.is_in_force(link.contact):
            self._roster.notify(member, MemberEventKind.CHANGED, f"reached at {link.host} now")
        self._settle(member)

    def _on_disconnected(self, member: Member) -> None:
        if member.hinted_at is None:
            member.hinted_at = self._roster.now
        self._approach.doubt_link(member)
        self._roster.send(member, self._roster.heartbeat(answer=True))

    def _announce_move(self) -> None:
        """Introduce ourselves again: they dial us back at the new addresses."""
        for member in self._roster:
            if member.is_live:
                self._approach.dial(member)

    # -- records -----------------------------------------------------------------------------------------------------

    def _settle(self, member: Member) -> None:
        """Take over the record that came from the node, once there is a way to the same incarnation."""
        record = member.fresh
        if record is None:
            return
        if member.link is None or member.link.contact.incarnation != record.incarnation:
            if member.contact.incarnation != record.incarnation:
                member.contact = contact_of(record)
                self._approach.dial(member)
            return
        previous, member.record, member.fresh = member.record, record, None
        if previous is None or previous.incarnation != record.incarnation:
            self._take_over(member)
        else:
            self._roster.notify(member, MemberEventKind.CHANGED)

    def _take_over(self, member: Member) -> None:
        kind = MemberEventKind.RESTARTED if member.is_live else MemberEventKind.JOINED
        member.record_since = self._roster.now
        member.told -= {"duplicate_name", "one_way"}
        self._roster.become_alive(member)
        self._roster.notify(member, kind)
