"""How nodes come to know what others know: records are fetched from their owner, contacts passed on by digest."""

from __future__ import annotations

from zmesh.core.membership.member import Member, MembershipTimings, contact_of
from zmesh.core.membership.messages import Contacts, RecordRequest
from zmesh.core.membership.roster import Roster

__all__ = ["Exchange"]

CONTACTS_PER_MESSAGE = 256


class Exchange:
    """Asks for what is missing here, and sends what may be missing there."""

    def __init__(self, roster: Roster, timings: MembershipTimings) -> None:
        self._roster = roster
        self._timings = timings

    def fetch(self, member: Member) -> None:
        """Ask for the member's record, if it has a newer one; once a heartbeat until it comes."""
        now, patience = self._roster.now, self._timings.heartbeat_interval_s
        if member.lacks_record and (member.asked_at is None or now - member.asked_at >= patience):
            member.asked_at = now
            self._roster.send(member, RecordRequest())

    def compare(self, member: Member, digest: int) -> None:
        """Send the contacts we have to a member whose digest differs; often while views move, else now and then."""
        if digest == self._roster.digest or not member.is_live:
            return
        pair = (digest, self._roster.digest)
        timings, now = self._timings, self._roster.now
        gap = timings.redial_interval_s if member.exchanged == pair else timings.heartbeat_interval_s
        if member.exchanged is not None and now - member.exchanged_at < gap:
            return
        member.exchanged, member.exchanged_at = pair, now
        self._send_contacts(member)

    def _send_contacts(self, member: Member) -> None:
        records = self._roster.live_records()
        others = [contact_of(record) for record in records if record.node_id != member.node_id]
        for start in range(0, len(others), CONTACTS_PER_MESSAGE):
            self._roster.send(member, Contacts(tuple(others[start : start + CONTACTS_PER_MESSAGE])))
