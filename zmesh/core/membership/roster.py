"""The members as one node sees them, and the only place where a member's status changes.

The roster collects the effects of the input that is being worked on; ``Membership`` decides, the roster carries out.
"""

from __future__ import annotations

from collections.abc import Iterator

from zmesh.core.membership.member import Member, MembershipTimings, Status, digest_of
from zmesh.core.membership.messages import (
    Contact,
    ControlMessage,
    Forget,
    Heartbeat,
    MemberEvent,
    MemberEventKind,
    MembershipEffect,
    NodeRecord,
    Notify,
    Report,
    SendControl,
)
from zmesh.errors import check

__all__ = ["MAX_MEMBERS", "Roster"]

MAX_MEMBERS = 1024  # remembered at once, living or not: what a lying member can make us hold is bounded
ANNOUNCE_INTERVAL_S = 0.02  # between heartbeats sent for news: a burst of registrations costs a few, not thousands


class Roster:
    """Members, this node's own record, the digest over the living, and the effects of the present input."""

    def __init__(self, record: NodeRecord, timings: MembershipTimings) -> None:
        self.record = record
        self.timings = timings
        self.digest = digest_of([record])
        self.effects: list[MembershipEffect] = []
        self.now = float("-inf")
        self.beat_at: float | None = None
        self.beaten_at = float("-inf")
        self._members: dict[str, Member] = {}
        self._told_namesake = False

    def __iter__(self) -> Iterator[Member]:
        """All members in the order in which they became known; a copy, so members may be forgotten meanwhile."""
        return iter(list(self._members.values()))

    def get(self, node_id: str) -> Member | None:
        """The member, if it is known."""
        return self._members.get(node_id)

    def live_records(self) -> list[NodeRecord]:
        """The records in force of the living, this node's own first."""
        return [self.record, *(m.record for m in self._members.values() if m.is_live and m.record is not None)]

    def find_or_add(self, contact: Contact) -> Member | None:
        """The member of that name, a new one if need be; None where there is no room."""
        member = self._members.get(contact.node_id)
        if member is None and len(self._members) >= MAX_MEMBERS:
            reason = f"more than {MAX_MEMBERS} nodes are known: those that come now are not taken in"
            self.effects.append(Report("too_many_members", self.record.node_id, reason))
        elif member is None:
            never = self.now - self.timings.redial_interval_s
            member = Member(contact, self.now, status_since=self.now, heard_at=self.now, dialled_at=never)
            self._members[contact.node_id] = member
        return member

    def forget(self, member: Member) -> None:
        """Keep nothing of it."""
        del self._members[member.node_id]
        self.effects.append(Forget(member.node_id))

    # -- the status of a member: section 5 of the specification ------------------------------------------------------

    def become_alive(self, member: Member) -> None:
        """It is here."""
        self._become(member, Status.ALIVE)
        member.heard_at = self.now
        member.hinted_at = None
        member.redials = 0
        self._changed()

    def become_recovered(self, member: Member) -> None:
        """It was suspected or dead, and the same incarnation has spoken."""
        reason = f"heard of again after being {member.status.value}"
        self.become_alive(member)
        self.send(member, self.heartbeat())
        self.notify(member, MemberEventKind.RECOVERED, reason)

    def become_suspect(self, member: Member) -> None:
        """It has been silent; it is asked, and may refute by answering."""
        self._become(member, Status.SUSPECT)
        self.send(member, self.heartbeat(answer=True))
        self.notify(member, MemberEventKind.SUSPECTED, self._silence(member))

    def become_dead(self, member: Member) -> None:
        """It has been silent for too long."""
        reason = self._silence(member)
        self._become(member, Status.DEAD)
        member.hinted_at = member.asked_at = None
        member.is_link_doubtful = True
        self._changed()
        self.notify(member, MemberEventKind.DIED, reason)

    def become_left(self, member: Member, incarnation: int) -> None:
        """It said goodbye, which is final for this incarnation."""
        was_live = member.is_live
        self._become(member, Status.LEFT)
        member.gone_incarnation = incarnation
        member.link = member.dialling = member.redial_at = member.hinted_at = member.fresh = None
        self._changed()
        if was_live:
            self.notify(member, MemberEventKind.LEFT, "it said goodbye")

    def _become(self, member: Member, status: Status) -> None:
        member.status, member.status_since = status, self.now

    def _changed(self) -> None:
        self.digest = digest_of(self.live_records())
        self.beat_soon()

    def _silence(self, member: Member) -> str:
        text = f"silent for {self.now - member.heard_at:.1f} s"
        return text if member.hinted_at is None else f"its connection closed, {text}"

    # -- effects -----------------------------------------------------------------------------------------------------

    def heartbeat(self, *, answer: bool = False) -> Heartbeat:
        """This node's heartbeat at the moment."""
        return Heartbeat(self.record.incarnation, self.record.version, self.digest, answer)

    def beat_soon(self) -> None:
        """There is news: do not wait for the next heartbeat's turn."""
        soon = max(self.now, self.beaten_at + ANNOUNCE_INTERVAL_S)
        self.beat_at = soon if self.beat_at is None else min(self.beat_at, soon)

    def send(self, member: Member, message: ControlMessage) -> None:
        """Send, if a way to the member is known."""
        if member.link is not None:
            self.effects.append(SendControl(member.node_id, message))

    def notify(self, member: Member, kind: MemberEventKind, reason: str = "") -> None:
        """Tell the process of a change."""
        check(member.record is not None, f"{member.node_id} has an event and no record")
        if member.record is not None:
            self.effects.append(Notify(MemberEvent(kind, member.record, reason)))

    def report(self, member: Member, kind: str, reason: str) -> None:
        """Tell the operator, once for each kind and member until it is taken over anew."""
        if kind not in member.told:
            member.told |= {kind}
            self.effects.append(Report(kind, member.node_id, reason))

    def tell_duplicate(self, member: Member) -> None:
        """A message of an incarnation came that is over. Frames on the way are over soon; a second node is not."""
        if self.now - member.record_since >= self.timings.suspect_after_s:
            reason = f"two running nodes call themselves {member.node_id}; the one started last is heeded: rename one"
            self.report(member, "duplicate_name", reason)

    def meet_namesake(self, contact: Contact) -> None:
        """Somebody told of a node with this node's own name."""
        if contact.incarnation > self.record.incarnation and not self._told_namesake:
            self._told_namesake = True
            name = self.record.node_id
            reason = f"another running node calls itself {name} too, and was started later: rename one of them"
            self.effects.append(Report("duplicate_name", name, reason))
