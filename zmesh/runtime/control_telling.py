"""Turns the machine's notices into those that the rest of the process knows: of members with their records and hosts.

A statement comes before the record that it has the hash of, and both may come before there is a way to the node. A
member is told of when all three are here, as what has become of it since; who leaves before that was never there. In a
wide mesh a way is looked for on need, so there a member is told of without one; once one is found, that is a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from zmesh.core.membership.member import MemberEvent, MemberEventKind, NodeRecord
from zmesh.core.membership.statements import Alive
from zmesh.errors import ProtocolViolation
from zmesh.runtime.admission import Admitted
from zmesh.runtime.control_notices import PeerNotice
from zmesh.runtime.peer import Route
from zmesh.wire.record import decode_record

__all__ = ["Telling"]

ENDS: Final = (MemberEventKind.DIED, MemberEventKind.LEFT)


class Routes(Protocol):
    """Who knows the ways to nodes."""

    def route_of(self, node_id: str) -> Route | None:
        """The way to a node, if there is one."""


class Admissions(Protocol):
    """Who knows which key a node has proved."""

    def by_name(self, node_id: str) -> Admitted | None:
        """The node of that name."""


@dataclass(slots=True)
class _Peer:
    alive: Alive
    record: NodeRecord | None = None  # as told
    fresh: NodeRecord | None = None  # of the latest statement
    pending: MemberEventKind | None = None
    reason: str = ""
    host: str = ""  # as told to whoever connects


class Telling:
    """What is known of each member, and what has been told of it."""

    def __init__(
        self,
        links: Routes,
        allowed: Admissions,
        notify: Callable[[PeerNotice], None],
        is_wide: Callable[[], bool] = lambda: False,
    ) -> None:
        """``is_wide``: whether the mesh has so many members that ways are looked for on need."""
        self._links = links
        self._allowed = allowed
        self._notify = notify
        self._is_wide = is_wide
        self._peers: dict[str, _Peer] = {}

    def without_a_way(self) -> Iterator[Alive]:
        """Those whose record is here, and who cannot be told of yet, or were told of without a host."""
        peers = list(self._peers.values())
        return (peer.alive for peer in peers if peer.fresh and not self._host_of(peer.alive.node_id))

    def member(self, kind: MemberEventKind, alive: Alive, reason: str) -> None:
        """The machine tells of a member."""
        if kind in ENDS:
            peer = self._peers.pop(alive.node_id, None)
            if peer is not None and peer.record is not None:
                self._tell(kind, peer.record, reason)
            return
        peer = self._peers.get(alive.node_id)
        if kind is MemberEventKind.SUSPECTED or (kind is MemberEventKind.RECOVERED and peer is not None):
            if peer is not None and peer.record is not None:
                self._tell(kind, peer.record, reason)
            return
        if peer is None:
            peer = self._peers[alive.node_id] = _Peer(alive)
        self._note(peer, kind, alive, reason)

    def record(self, alive: Alive, record: bytes) -> None:
        """The record that this statement is about has come. Raises ``ProtocolViolation`` if it is not one of it."""
        peer = self._peers.get(alive.node_id)
        if peer is None:
            return
        found = decode_record(record)
        if (found.node_id, found.incarnation, found.certificate) != (
            alive.node_id,
            alive.incarnation,
            alive.certificate,
        ):
            raise ProtocolViolation("forged_record", f"it is of {found.node_id}, or of another start of it")
        peer.alive, peer.fresh = alive, found
        self.settle(alive.node_id)

    def settle(self, node_id: str) -> None:
        """Tell of it, if there is something to tell, and all of that is known."""
        peer = self._peers.get(node_id)
        host = self._host_of(node_id)
        if peer is None or peer.fresh is None or not (host or self._is_wide()):
            return
        if peer.pending is not None:
            kind, reason, peer.pending, peer.reason = peer.pending, peer.reason, None, ""
            peer.record = peer.fresh
            self._tell(kind, peer.record, reason)
        elif peer.record is not None and host != peer.host:
            self._tell(MemberEventKind.CHANGED, peer.record, f"reached at {host} now")

    @staticmethod
    def _note(peer: _Peer, kind: MemberEventKind, alive: Alive, reason: str) -> None:
        if peer.alive.incarnation != alive.incarnation or peer.alive.record_hash != alive.record_hash:
            peer.fresh = None
        peer.alive = alive
        if peer.record is None:  # never told of: it comes, whatever has become of it meanwhile
            kind = kind if kind is MemberEventKind.RECOVERED else MemberEventKind.JOINED
        if peer.pending is None or kind is MemberEventKind.RESTARTED:
            peer.pending, peer.reason = kind, reason

    def _host_of(self, node_id: str) -> str:
        route = self._links.route_of(node_id)
        return route.host if route is not None else ""

    def _tell(self, kind: MemberEventKind, record: NodeRecord, reason: str) -> None:
        node_id = record.node_id
        route = self._links.route_of(node_id)
        admitted = self._allowed.by_name(node_id)
        host = route.host if route is not None else ""
        if node_id in self._peers and kind is not MemberEventKind.SUSPECTED:  # nobody connects to a suspect
            self._peers[node_id].host = host
        self._notify(
            PeerNotice(
                event=MemberEvent(kind, record, reason),
                host=host,
                curve_public=route.curve_public if route is not None else b"",
                fingerprint=admitted.fingerprint if admitted is not None else "",
                is_wide=self._is_wide(),
            )
        )
