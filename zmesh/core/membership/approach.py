"""When to dial which member: the way to a node is looked for until there is one, and again when it may be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmesh.core.membership.member import Member, MembershipTimings, Status
from zmesh.core.membership.messages import Contact, Introduce
from zmesh.core.membership.roster import Roster

if TYPE_CHECKING:
    import random

__all__ = ["Approach"]

MAX_DOUBLINGS = 16


class Approach:
    """Decides about dialling; the driver dials."""

    def __init__(self, roster: Roster, timings: MembershipTimings, random: random.Random) -> None:
        self._roster = roster
        self._timings = timings
        self._random = random

    def dial(self, member: Member) -> None:
        """Dial the member at the addresses known, unless that is under way."""
        if member.dialling == member.contact:
            return
        member.dialling = member.contact
        member.dialled_at = self._roster.now
        member.redial_at = None
        self._roster.effects.append(Introduce(member.contact))

    def dial_if_needed(self, member: Member) -> None:
        """Dial the member, if the way to it is missing or in doubt."""
        if member.needs_dial:
            self.dial(member)

    def learn_from_other(self, member: Member, contact: Contact) -> None:
        """A third node says where this one is. True or not, it is only a reason to dial."""
        is_newer = contact.incarnation > max(member.contact.incarnation, member.gone_incarnation)
        if is_newer or (not member.is_live and contact.incarnation == member.contact.incarnation):
            member.contact = contact
        if is_newer:
            self.dial(member)
        elif member.needs_dial and member.dialling is None:
            self.redial_by(member, max(self._roster.now, member.dialled_at + self._timings.redial_interval_s))

    def doubt_link(self, member: Member) -> None:
        """A connection to it closed. If it lives, it may have moved: find the way again, soon."""
        member.is_link_doubtful = True
        self.redial_by(member, self._roster.now + self._timings.suspect_after_s)

    def failed(self, member: Member) -> None:
        """Nobody of that name answered."""
        member.dialling = None
        member.redials += 1
        self.schedule_redial(member)
        if member.fresh is not None and member.status is Status.UNSEEN:
            hosts = ", ".join(member.contact.hosts)
            reason = f"{member.node_id} reaches this node, but does not answer at {hosts}: is a firewall in the way?"
            self._roster.report(member, "one_way", reason)

    def schedule_redial(self, member: Member) -> None:
        """Dial again later, and later each time."""
        if member.is_settled:
            return
        doubled = self._timings.redial_interval_s * 2.0 ** min(member.redials, MAX_DOUBLINGS)
        interval = min(doubled, self._timings.redial_interval_max_s)
        member.redial_at = self._roster.now + interval * self._random.uniform(0.75, 1.0)

    def redial(self, member: Member) -> None:
        """The time for it has come."""
        member.redial_at = None
        if member.status is Status.UNSEEN:
            member.link = None  # it was introduced, and then never spoke
        self.dial_if_needed(member)

    @staticmethod
    def redial_by(member: Member, when: float) -> None:
        """Dial again at ``when``, if not before."""
        member.redial_at = when if member.redial_at is None else min(member.redial_at, when)
