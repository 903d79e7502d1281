"""What the control loop wants of whoever drives a membership machine. There are two: ``control_choice`` chooses."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import zmq

from zmesh.config import Timings
from zmesh.core.membership.member import Contact, NodeRecord
from zmesh.runtime.admission import AllowList
from zmesh.runtime.control_links import Links
from zmesh.runtime.control_notices import IncidentLog, PeerNotice
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.peer import Route
from zmesh.security import Identity, VerifiedCertificate, Verifier

__all__ = ["MemberDriver", "MemberParts"]


@dataclass(frozen=True, slots=True)
class MemberParts:
    """What a driver is made of."""

    record: NodeRecord
    timings: Timings
    chance: random.Random
    router: zmq.Socket[bytes]
    links: Links
    identity: Identity
    verifier: Verifier
    allowed: AllowList
    incidents: IncidentLog
    reactor: Reactor
    clock: Callable[[], float]
    notify: Callable[[PeerNotice], None]


class MemberDriver(Protocol):
    """The members of the mesh, and what is said to and by them. Used on the control thread alone."""

    record: NodeRecord  # this node's own, at present

    @property
    def heard_ms(self) -> dict[str, int]:
        """When each node was last heard of, by the wall clock; read from other threads."""

    @property
    def received(self) -> int:
        """How many frames have come."""

    @property
    def view_size(self) -> int:
        """How many members there are, this node included; read from other threads."""

    @property
    def view_digest(self) -> int:
        """Equal at two nodes that know the same members; read from other threads."""

    @property
    def own_contact(self) -> Contact:
        """How others may dial this node."""

    def connect(self, meet: Callable[[Contact], None], lost: Callable[[str], None]) -> None:
        """Say who dials a contact, and who wants to know of members that die or leave."""

    def refuses(self, contact: Contact) -> str:
        """Why a node that calls itself this may not be introduced: "self", "duplicate_name", "superseded", or ""."""

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due, by the clock given; None before the first one, and after ``leave``."""

    def handle_timeout(self) -> None:
        """Do what has fallen due."""

    def handle_frames(self) -> None:
        """Take in what members have sent."""

    def greeted(self, contact: Contact) -> None:
        """A verified hello came from this node."""

    def introduced(self, verified: VerifiedCertificate, certificate: bytes, contact: Contact, route: Route) -> None:
        """The node was met at ``route``."""

    def introduction_failed(self, node_id: str) -> None:
        """The node could not be met."""

    def disconnected(self, node_id: str) -> None:
        """A connection with the node closed."""

    def connection_closed(self, descriptor: int) -> None:
        """An incoming control connection closed."""

    def update_record(self, record: NodeRecord) -> None:
        """This node says something new of itself."""

    def leave(self) -> None:
        """Say goodbye."""

    def close(self) -> None:
        """Free what has been opened."""
