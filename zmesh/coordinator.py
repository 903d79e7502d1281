"""The Network Coordinator: turns what the control plane learns into a registry, links and subscriptions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from zmesh.config import Timings
from zmesh.core.membership.member import MemberEventKind, NodeRecord
from zmesh.errors import PeerLost
from zmesh.messenger import Messenger
from zmesh.registry import Registry
from zmesh.runtime.control_notices import ControlNotice, IncidentNotice, PeerNotice
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.link import Link
from zmesh.runtime.peer import PeerAddress, endpoint_of
from zmesh.runtime.publishing import Publishing

__all__ = ["Coordinator"]

PARTING_GRACE_S: Final = 0.5
REVIEW_INTERVAL_S: Final = 1.0

logger = logging.getLogger("zmesh.coordinator")


class Coordinator:
    """Lives on the loop; ``notify`` is what the control thread calls."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plane: DataPlane,
        publishing: Publishing,
        registry: Registry,
        messenger: Messenger,
        timings: Timings,
        incident: Callable[[IncidentNotice], None],
    ) -> None:
        self._loop = loop
        self._plane = plane
        self._publishing = publishing
        self._registry = registry
        self._messenger = messenger
        self._timings = timings
        self._incident = incident
        self._is_closed = False
        self._farewells: dict[str, asyncio.TimerHandle] = {}  # what happens to nodes that stay away
        self._unreached: dict[Link, float] = {}  # links with something to send and no connection: for how long, in s
        self._review_at = plane.clock()
        plane.on_tick.append(self._review)

    def notify(self, notice: ControlNotice) -> None:
        """Thread-safe: take note of something, in the loop, in order."""
        try:
            self._loop.call_soon_threadsafe(self._take, notice)
        except RuntimeError:
            logger.debug("the loop is closed; dropped %r", notice)

    def close(self) -> None:
        """Forget what was planned, and hear no more: what opens a connection now would leave it open."""
        self._is_closed = True
        for farewell in self._farewells.values():
            farewell.cancel()
        self._farewells.clear()

    def _take(self, notice: ControlNotice) -> None:
        if self._is_closed:
            return
        if isinstance(notice, PeerNotice):
            self._take_peer(notice)
        else:
            self._incident(notice)

    def _take_peer(self, notice: PeerNotice) -> None:
        event, record = notice.event, notice.event.record
        if record.incarnation < self._registry.incarnation_of(record.node_id):
            # It came back with its clock set back: its sessions would be taken for older ones than we remember.
            self._plane.links.forget_sessions(record.node_id, f"node {record.node_id} has restarted")
        host = notice.host or next(iter(record.hosts), "")  # until one has answered, the first that it states
        self._registry.apply(event, host, notice.fingerprint)
        if event.kind not in (MemberEventKind.SUSPECTED, MemberEventKind.DIED, MemberEventKind.LEFT):
            self._connect(record, notice)
        if event.kind in (MemberEventKind.DIED, MemberEventKind.LEFT):
            self._publishing.silence(record.node_id)
        if event.kind is MemberEventKind.DIED:
            self._end_requests(record.node_id)
            self._plan_farewell(record)
        elif event.kind is MemberEventKind.LEFT:
            self._plan_parting(record.node_id)
        elif event.kind is not MemberEventKind.SUSPECTED:
            self._cancel_farewell(record.node_id)
        self._messenger.forget_routes()

    def _connect(self, record: NodeRecord, notice: PeerNotice) -> None:
        node_id, incarnation = record.node_id, record.incarnation
        self._plane.links.set_peer(node_id, incarnation, _address(notice, record.data_port))
        self._publishing.connect(
            node_id,
            incarnation,
            _address(notice, record.publish_port),
            publishes=record.publishes,
            is_wide=notice.is_wide,
        )

    # -- nodes that stay away ------------------------------------------------------------------------------------------

    def _end_requests(self, node_id: str) -> None:
        """Whoever asked is not left to wait for its deadline; what was sent is held, since it may only be suspended."""
        link = self._plane.links.get(node_id)
        if link is not None:
            reason = (
                f"node {node_id} has fallen silent and is taken for dead; whether it acted on the request is unknown"
            )
            self._plane.requests.fail(link, PeerLost(reason))

    def _plan_farewell(self, record: NodeRecord) -> None:
        """A silent node may only be suspended: its session is kept for a while."""
        self._cancel_farewell(record.node_id)
        window_s = self._timings.resume_window_s
        reason = f"node {record.node_id} has been silent for {window_s:g} s"
        self._farewells[record.node_id] = self._loop.call_later(window_s, self._give_up, record.node_id, reason)

    def _plan_parting(self, node_id: str) -> None:
        """It said goodbye on the control plane; last acknowledgements may still be on their way on the data plane."""
        self._cancel_farewell(node_id)
        reason = f"node {node_id} has left the mesh"
        self._farewells[node_id] = self._loop.call_later(PARTING_GRACE_S, self._give_up, node_id, reason)

    def _review(self, now: float) -> None:
        """Who lives, by what others say, and cannot be reached from here, is waited for as long as who is silent."""
        if now < self._review_at:
            return
        self._review_at = now + REVIEW_INTERVAL_S
        before, self._unreached = self._unreached, {}
        for link in self._plane.links.awake():
            node_id = link.node_id
            if link.is_reachable or link.is_idle() or node_id in self._farewells:
                continue
            waited_s = before.get(link, 0.0)  # by reviews, not by the clock: while we are stopped nobody waits
            if waited_s < self._timings.resume_window_s:
                self._unreached[link] = waited_s + REVIEW_INTERVAL_S
            else:
                reason = f"node {node_id} lives, but no connection to it could be made for {waited_s:g} s"
                self._plane.links.close(node_id, reason)

    def _give_up(self, node_id: str, reason: str) -> None:
        self._part(node_id, reason)
        self._registry.forget_agents(node_id)
        self._messenger.forget_routes()
        self._plan_forgetting(node_id)

    def _plan_forgetting(self, node_id: str) -> None:
        self._cancel_farewell(node_id)
        delay_s = self._timings.forget_after_s
        self._farewells[node_id] = self._loop.call_later(delay_s, self._registry.forget, node_id)

    def _part(self, node_id: str, reason: str) -> None:
        self._plane.links.close(node_id, reason)
        self._publishing.disconnect(node_id)

    def _cancel_farewell(self, node_id: str) -> None:
        farewell = self._farewells.pop(node_id, None)
        if farewell is not None:
            farewell.cancel()


def _address(notice: PeerNotice, port: int) -> PeerAddress | None:
    return PeerAddress(endpoint_of(notice.host, port), notice.curve_public) if notice.host else None
