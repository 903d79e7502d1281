"""What the membership machine remembers of one other node, and how patient it is with it."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, replace

from zmesh.core.membership.messages import Contact, NodeRecord

__all__ = ["Link", "Member", "MembershipTimings", "Status", "contact_of", "digest_of"]

DIGEST_BYTES = 8
_DIGEST_MODULUS = 1 << (8 * DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class MembershipTimings:
    """How patient a node is. Seconds throughout."""

    heartbeat_interval_s: float = 0.25
    suspect_after_s: float = 1.0
    dead_after_s: float = 3.0  # counted from the last sign of life
    forget_after_s: float = 600.0
    redial_interval_s: float = 2.0
    redial_interval_max_s: float = 30.0
    hint_floor_s: float = 0.4  # a reconnect, with CURVE's handshake on a busy machine, must fit in

    @property
    def hint_wait_s(self) -> float:
        """How long a member may stay silent once its connection has closed: two heartbeats."""
        return max(2 * self.heartbeat_interval_s, self.hint_floor_s)


class Status(enum.Enum):
    """How a member stands. ``docs/spec/02-control-plane.md`` section 5 has the table of transitions."""

    UNSEEN = "unseen"  # heard of; its own record, or the way to it, is still missing
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"  # may return in the same incarnation: it was stopped, or cut off
    LEFT = "left"  # final for that incarnation


@dataclass(frozen=True, slots=True)
class Link:
    """A way to a member that has been proved by an introduction."""

    host: str
    contact: Contact  # as the member gave it

    @classmethod
    def from_introduced(cls, contact: Contact) -> Link:
        """From a contact whose first host is the one that answered, and the rest those the member gave."""
        return cls(contact.hosts[0], replace(contact, hosts=contact.hosts[1:]))

    def leads_to(self, contact: Contact) -> bool:
        """Whether this is still the way to the node that ``contact`` describes."""
        mine = self.contact
        return (
            mine.incarnation == contact.incarnation
            and mine.introduction_port == contact.introduction_port
            and sorted(mine.hosts) == sorted(contact.hosts)
        )


@dataclass(slots=True)
class Member:
    """One other node. Changed by the machine only. Times are the machine's clock, in seconds."""

    contact: Contact  # the newest known, wherever from
    mentioned_at: float
    status: Status = Status.UNSEEN
    status_since: float = 0.0
    record: NodeRecord | None = None  # from the node itself, and in force
    record_since: float = 0.0  # when this incarnation was taken over
    fresh: NodeRecord | None = None  # from the node itself, and waiting for a link to that incarnation
    wanted: tuple[int, int] = (0, 0)  # newest (incarnation, version) it told of
    asked_at: float | None = None
    link: Link | None = None
    dialling: Contact | None = None
    dialled_at: float = 0.0
    redials: int = 0
    redial_at: float | None = None
    heard_at: float = 0.0
    hinted_at: float | None = None  # its connection closed, and nothing has come since
    is_link_doubtful: bool = False  # its connection closed, or it died, since the last introduction
    gone_incarnation: int = 0  # it said goodbye in this one
    exchanged: tuple[int, int] | None = None  # the digests (its, ours) when contacts were last sent
    exchanged_at: float = 0.0
    told: frozenset[str] = frozenset()  # what has been reported about it

    @property
    def node_id(self) -> str:
        """The member's name."""
        return self.contact.node_id

    @property
    def is_live(self) -> bool:
        """Whether it counts as a member now."""
        return self.status in (Status.ALIVE, Status.SUSPECT)

    @property
    def is_gone(self) -> bool:
        """Whether the incarnation that could be dialled has said goodbye."""
        return self.contact.incarnation == self.gone_incarnation

    @property
    def is_linked(self) -> bool:
        """Whether there is a way to the incarnation known, at the addresses known."""
        return self.link is not None and self.link.leads_to(self.contact)

    @property
    def is_settled(self) -> bool:
        """Whether nothing needs to be dialled, now or later."""
        return self.is_gone or (self.is_live and self.is_linked and not self.is_link_doubtful)

    @property
    def needs_dial(self) -> bool:
        """Whether to dial now."""
        return not self.is_gone and (not self.is_linked or self.is_link_doubtful)

    def is_in_force(self, contact: Contact) -> bool:
        """Whether the record in force is of the incarnation that ``contact`` names."""
        return self.record is not None and self.record.incarnation == contact.incarnation

    @property
    def lacks_record(self) -> bool:
        """Whether it has a newer record than the one here."""
        newest = self.fresh or self.record
        if newest is None or self.wanted > (newest.incarnation, newest.version):
            return True
        return self.link is not None and newest.incarnation != self.link.contact.incarnation

    def suspect_at(self, timings: MembershipTimings) -> float:
        """When silence makes it suspect."""
        at = self.heard_at + timings.suspect_after_s
        return at if self.hinted_at is None else min(at, self.hinted_at + timings.hint_wait_s / 2)

    def dead_at(self, timings: MembershipTimings) -> float:
        """When silence makes it dead."""
        at = self.heard_at + timings.dead_after_s
        return at if self.hinted_at is None else min(at, self.hinted_at + timings.hint_wait_s)


def contact_of(record: NodeRecord) -> Contact:
    """The part of a record that is passed on to third nodes."""
    return Contact(record.node_id, record.incarnation, record.hosts, record.introduction_port, record.machine)


def digest_of(records: list[NodeRecord]) -> int:
    """A 64-bit number that is equal for equal sets of (node_id, incarnation), in whatever order they come.

    Section 4 of the specification. It compares honest views; it is no proof against forgery and needs to be none.
    """
    return sum(_token(record) for record in records) % _DIGEST_MODULUS


def _token(record: NodeRecord) -> int:
    data = record.node_id.encode() + b"\0" + record.incarnation.to_bytes(8, "big")
    return int.from_bytes(hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest(), "big")
