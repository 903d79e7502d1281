"""A running node: planes, components and discovery, put together and taken apart in the right order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from zmesh.address import parse_peer_address
from zmesh.config import NetworkConfig
from zmesh.coordinator import Coordinator
from zmesh.core.membership.member import AgentRecord
from zmesh.discovery.interfaces import is_loopback
from zmesh.errors import PeerLost, RequestTimeout
from zmesh.loop import finished
from zmesh.maintenance import Maintenance, flushed
from zmesh.messenger import Messenger
from zmesh.planes import Planes, Search, Standing
from zmesh.registry import Registry
from zmesh.runtime.control_notices import IncidentLog, IncidentNotice
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.peer import endpoint_of
from zmesh.runtime.publishing import Publishing
from zmesh.security import Identity

__all__ = ["NetworkInfo", "Node"]

logger = logging.getLogger("zmesh")

DRAIN_TIMEOUT_S: Final = 5.0
SETTLING_HEARTBEATS: Final = 2  # the first that tells of a change of the record may be lost with its connection
MAX_NEIGHBOURS: Final = 8  # dialled at the start: one that answers knows the others, and some may be about to end
JOIN_PATIENCE_S: Final = 3.0  # how long join_network waits for an address it was given; discovery goes on after it


class NetworkInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a node can say of itself. ``addresses`` are what another machine can dial, best first."""

    node_id: str
    mesh: str
    mesh_id: str
    fingerprint: str
    incarnation: int
    addresses: tuple[str, ...]
    discovery: dict[str, str]
    has_authority: bool
    is_client: bool


class Node:
    """Everything that lives between joining and leaving."""

    def __init__(
        self, config: NetworkConfig, planes: Planes, standing: Standing, report: Callable[[IncidentNotice], None]
    ) -> None:
        """Opens the planes. Raises ``ConfigurationError``, ``AddressInUse``; nothing is left open then."""
        self.config = config
        self.standing = standing
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._planes = planes.open(config, standing, lambda notice: self._coordinator.notify(notice))
        self._control = self._planes.control
        self.record = self._planes.make_record()
        self.plane = self._make_data_plane()
        self.publishing = Publishing(self.plane)
        self.publishing.announce = lambda: self._change_record(publishes=True)
        self.registry = Registry(self._control.last_heard_ms, self.plane.wall_ms)
        self.messenger = Messenger(
            self.plane,
            self.publishing,
            self.registry,
            request_timeout_s=config.request_timeout_s,
            handler_concurrency=config.handler_concurrency,
            agents_changed=self._agents_changed,
        )
        self.maintenance = self._make_maintenance()
        self._coordinator = Coordinator(
            self._loop, self.plane, self.publishing, self.registry, self.messenger, config.effective_timings, report
        )
        self._search: Search | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def _identity(self) -> Identity:
        return self.standing.identity

    def _make_data_plane(self) -> DataPlane:
        incidents = IncidentLog(self._report)  # told of once for each kind and source, like those of the control plane
        return DataPlane(
            loop=self._loop,
            carrier=self._planes.carrier,
            node_id=self._identity.node_id,
            incarnation=self.record.incarnation,
            window_bytes=self.config.window_bytes,
            max_message_bytes=self.config.max_message_bytes,
            idle_link_s=self.config.idle_link_s,
            incident=lambda kind, reason, source: incidents.report(kind, source, reason),
            peer_disconnected=self._control.disconnected,
            find=self._control.find,
        )

    def _make_maintenance(self) -> Maintenance:
        return Maintenance(
            self.plane,
            self.messenger.local,
            announce=lambda is_on: self._change_record(maintenance=is_on),
            settling_s=SETTLING_HEARTBEATS * self.config.effective_timings.heartbeat_interval_s,
        )

    # -- coming and going ----------------------------------------------------------------------------------------------

    async def start(self, addresses: Sequence[str]) -> None:
        """Begin to serve, and to look for others."""
        identity = self._identity
        self.registry.add_self(self.record, self.record.hosts[0] if self.record.hosts else "", identity.fingerprint)
        self._planes.start_control(self.record)
        self.plane.start()
        self.publishing.start()
        self._search = self._planes.new_search(
            self.record,
            tuple(dict.fromkeys((*addresses, *self.config.bootstrap, *self.standing.addresses))),
            self._hosts_changed,
            lambda way, reason: self._report(IncidentNotice("discovery_failed", reason, way, 1)),
        )
        await self._search.start()
        self._dial_neighbours()
        self.standing.announce(self.info().addresses)
        renewing = self.standing.keep_renewed(
            client=self.config.client, renewed=self._certificate_renewed, report=self._report
        )
        self._renewing = asyncio.create_task(renewing, name="zmesh renewal")

    def _dial_neighbours(self) -> None:
        """Other nodes of this key directory are on this machine: they need no discovery."""
        neighbours = [node for node in self.standing.neighbours() if node.node_id != self.record.node_id]
        for neighbour in neighbours[:MAX_NEIGHBOURS]:
            self._control.dial([parse_peer_address(address) for address in neighbour.addresses], persistent=False)

    async def wait_until_found(self, addresses: Sequence[str]) -> None:
        """Wait, not for long, until somebody answers where the caller said that somebody is."""
        if not (addresses or self.config.bootstrap or self.standing.addresses):
            return
        try:
            await self.registry.wait_for_nodes(2, JOIN_PATIENCE_S)
        except RequestTimeout:
            given = ", ".join((*addresses, *self.config.bootstrap, *self.standing.addresses))
            reason = (
                f"nobody has answered at {given} within {JOIN_PATIENCE_S:g} s; they are asked again from time to time"
            )
            self._report(IncidentNotice("nobody_answered", reason, given, 1))

    async def stop(self) -> None:
        """Deliver what is on its way, say goodbye, close everything: that also where the delivering is cancelled."""
        leaving = asyncio.current_task()  # a handler's, perhaps
        try:
            if self._renewing is not None:
                self._renewing.cancel()
                await asyncio.gather(self._renewing, return_exceptions=True)
            left = await flushed(self.plane, DRAIN_TIMEOUT_S)
            if left:
                logger.warning("left the mesh with %d messages that were not acknowledged", left)
        finally:
            await finished(self._close(leaving))

    async def _close(self, leaving: asyncio.Task[Any] | None) -> None:
        if self._search is not None:
            await self._search.stop()
        self._coordinator.close()
        self.maintenance.close()
        await self.messenger.health.close()
        farewell = PeerLost("this node has left the mesh")
        self.publishing.close(farewell)
        self.messenger.close(farewell)
        await self.plane.close(leaving)
        await self._planes.stop_control()
        self.registry.close()
        await self._planes.close()
        self.standing.release()

    # -- what it says of itself --------------------------------------------------------------------------------------

    def info(self) -> NetworkInfo:
        """See ``AgentNetwork.info``."""
        identity = self._identity
        port = self.record.introduction_port
        hosts = [host for host in self.record.hosts if not is_loopback(host)] or self.record.hosts
        return NetworkInfo(
            node_id=identity.node_id,
            mesh=identity.mesh,
            mesh_id=identity.mesh_id,
            fingerprint=identity.fingerprint,
            incarnation=self.record.incarnation,
            addresses=tuple(endpoint_of(host, port) for host in hosts),
            discovery=self._search.states() if self._search is not None else {},
            has_authority=self.standing.has_authority(),
            is_client=self.config.client,
        )

    def _agents_changed(self, agents: tuple[AgentRecord, ...]) -> None:
        self._change_record(agents=agents)

    def _hosts_changed(self, hosts: tuple[str, ...]) -> None:
        self._change_record(hosts=hosts)
        self.standing.announce(self.info().addresses)

    def _certificate_renewed(self) -> None:
        self._change_record(certificate=self._identity.certificate)

    def _change_record(self, **changes: Any) -> None:
        self._control.update_record(**changes)
        self.record = replace(self.record, version=self.record.version + 1, **changes)
        self.registry.update_self(self.record)
