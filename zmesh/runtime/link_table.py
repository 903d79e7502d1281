"""The links of a node, one to each peer, and what outlives them: addresses, and what was received."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmesh.errors import PeerLost
from zmesh.runtime.link import Link
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.receiving import ReceivingHalf

if TYPE_CHECKING:
    from zmesh.runtime.data_plane import DataPlane

__all__ = ["LinkTable"]


class LinkTable:
    """Makes and closes links. A closed one is replaced, on next use, by one with a session of its own."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self.by_node: dict[str, Link] = {}  # to be read by others, changed here alone
        self._addresses: dict[str, PeerAddress] = {}
        self._incarnations: dict[str, int] = {}  # as the membership knows them
        self._awake: dict[Link, None] = {}  # those for which time matters: connected, or with something to do
        self._halves: dict[str, ReceivingHalf] = {}  # of links that were closed, by peer
        self._last_session = plane.incarnation - 1

    def get(self, node_id: str) -> Link | None:
        """The link to a node, if there is one."""
        return self.by_node.get(node_id)

    def all(self) -> list[Link]:
        """Every link there is now."""
        return list(self.by_node.values())

    def link_to(self, node_id: str, incarnation: int) -> Link:
        """The link to that incarnation of a peer, made on first use; an older incarnation's is closed."""
        link = self.by_node.get(node_id)
        if link is not None and link.remote_incarnation == 0:
            link.remote_incarnation = incarnation  # it was here before we knew of the node
        if link is not None and link.remote_incarnation >= incarnation:
            return link
        if link is not None:
            self.close(node_id, f"node {node_id} has restarted")
        return self._new_link(node_id, incarnation)

    def link_for(self, node_id: str) -> Link:
        """The link to a node, whatever its incarnation; one to a node not known yet waits for its address."""
        return self.by_node.get(node_id) or self._new_link(node_id, self._incarnations.get(node_id, 0))

    def _new_link(self, node_id: str, incarnation: int) -> Link:
        # Upwards whatever the clock does, and above every session of this node's earlier incarnations.
        self._last_session = max(self._last_session + 1, self._plane.wall_ms())
        half = self._halves.get(node_id)
        if half is not None and half.session < incarnation:
            half.is_over = True
        address = self._addresses.get(node_id)
        link = Link(self._plane, node_id, incarnation, self._last_session, address, half)
        self.by_node[node_id] = link
        return link

    def set_peer(self, node_id: str, incarnation: int, address: PeerAddress | None) -> None:
        """Which incarnation of a peer is there, and where it can be reached, where that is known."""
        if self._incarnations.get(node_id) != incarnation:
            self._incarnations[node_id] = incarnation
            self._addresses.pop(node_id, None)  # of the process before this one
        if address is not None:
            self._addresses[node_id] = address
            self._plane.ways.forget(node_id)
        if node_id in self.by_node:  # else it is made when there is something to send
            self.link_to(node_id, incarnation).set_address(self._addresses.get(node_id))

    # -- time --------------------------------------------------------------------------------------------------------

    def wake(self, link: Link) -> None:
        """The link has something to send and no connection, or something to wait for."""
        self._awake[link] = None
        if link.node_id not in self._addresses:
            self._plane.ways.want(link.node_id)

    def awake(self) -> list[Link]:
        """Those that are connected, or have something to do."""
        return list(self._awake)

    def tick(self, now: float) -> None:
        """Called every few milliseconds: what nothing is sent over costs nothing."""
        for link in self.awake():
            if link.closed is not None or not link.handle_timeout(now):
                self._awake.pop(link, None)
            elif link.node_id not in self._addresses:
                self._plane.ways.want(link.node_id)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self, node_id: str, reason: str) -> None:
        """The peer is gone for good: report what it never acknowledged."""
        link = self.by_node.pop(node_id, None)
        if link is not None:
            self._awake.pop(link, None)
            self._halves[node_id] = link.half  # what the peer sent stays known, so that nothing is delivered twice
            link.close(PeerLost(reason))
            self._plane.forget(link)

    def forget_sessions(self, node_id: str, reason: str) -> None:
        """The peer's clock was set back: its sessions are numbered below those remembered here."""
        self.close(node_id, reason)
        self._halves.pop(node_id, None)

    def begin_anew(self, link: Link) -> Link:
        """The peer knows nothing of what this link has sent: it is reported; the link with a session of its own."""
        self.close(
            link.node_id, f"node {link.node_id} refuses this session: it runs anew, or was sent more than it takes"
        )
        return self._new_link(link.node_id, 0)  # of whichever incarnation answers it

    def leave(self) -> None:
        """End all links from this side."""
        for link in self.all():
            link.leave(PeerLost("this node has left the mesh"))
        self.by_node.clear()
        self._awake.clear()
        self._addresses.clear()  # whoever still asks for a link gets one that opens no socket
