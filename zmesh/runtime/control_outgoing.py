"""What is said to nodes: as frames, and not yet to those that cannot let us in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zmesh.core.membership.member import Contact
from zmesh.core.membership.messages import Body, Heartbeat, Hello, MembershipMessage, Notice, Pull
from zmesh.errors import MessageTooLarge
from zmesh.runtime.control_notices import IncidentLog
from zmesh.runtime.control_ways import Ways
from zmesh.wire.membership import encode_membership

__all__ = ["Outgoing"]

NEWCOMER_S: Final = 3.0  # who has just come gets the view first: before that it takes connections from none of us
DISTINCT: Final = 64  # frames of one kind that are kept apart while they wait; of these kinds the newest does:
NEWEST_SERVES: Final = (Heartbeat, Hello, Notice, Pull)


class Outgoing:
    """Encodes messages and sends them by the ways there are. Used on the control thread alone."""

    def __init__(self, node_id: str, ways: Ways, incidents: IncidentLog, clock: Callable[[], float]) -> None:
        self._node_id = node_id
        self._ways = ways
        self._incidents = incidents
        self._clock = clock
        self._newcomers: dict[str, float] = {}  # members that may not know us yet: since when
        self._encoded: tuple[MembershipMessage | None, bytes] = (None, b"")
        self._body: tuple[MembershipMessage | None, bytes] = (None, b"")
        self._sent = 0

    def send(self, to: Contact, message: MembershipMessage, *, is_member: bool) -> None:
        """Send, or let it wait for the way; or not at all, if it would be in vain and something newer will come."""
        if isinstance(message, NEWEST_SERVES) and self._is_newcomer(to.node_id):
            return  # it would not let us in, and each attempt costs both a handshake
        kind = type(message).__name__
        if not isinstance(message, NEWEST_SERVES):
            self._sent += 1
            kind = f"{kind} {self._sent % DISTINCT}"
        self._ways.send(to, kind, self._encode(message), is_member=is_member)

    def joined(self, node_id: str) -> None:
        """It is a member from now on, and has not met us."""
        self._newcomers[node_id] = self._clock()

    def knows_us(self, node_id: str) -> None:
        """It has spoken to us; or it has gone."""
        self._newcomers.pop(node_id, None)

    def _is_newcomer(self, node_id: str) -> bool:
        since = self._newcomers.get(node_id)
        return since is not None and self._clock() - since < NEWCOMER_S

    def _encode(self, message: MembershipMessage) -> bytes:
        """The same message goes to many: a heartbeat to all neighbours; a view, with others between, to newcomers."""
        if isinstance(message, Body) and self._body[0] is message:
            return self._body[1]
        if self._encoded[0] is not message:
            try:
                self._encoded = (message, encode_membership(message))
            except MessageTooLarge as error:
                self._incidents.report("view_too_large", self._node_id, f"a neighbour cannot be told: {error}")
                self._encoded = (message, encode_membership(Body(0, 0)))
            if isinstance(message, Body):
                self._body = self._encoded
        return self._encoded[1]
