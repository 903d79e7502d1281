"""What ``Members`` is made of."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from zmesh.config import Timings
from zmesh.core.membership.member import NodeRecord
from zmesh.runtime.admission import AllowList
from zmesh.runtime.control_links import Links
from zmesh.runtime.control_notices import IncidentLog, PeerNotice
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.signs import Signs
from zmesh.security import Identity, Verifier

__all__ = ["MemberParts"]


@dataclass(frozen=True, slots=True)
class MemberParts:
    """The surroundings of the membership machine on the control thread."""

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
    signs: Signs
