"""A running node: sockets, planes, components and discovery, put together and taken apart in the right order."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import msgspec
import zmq

from zmesh.address import parse_address, parse_peer_address
from zmesh.config import NetworkConfig
from zmesh.coordinator import Coordinator
from zmesh.core.membership.messages import AgentRecord, NodeRecord
from zmesh.discovery.interfaces import advertised_hosts, is_loopback, machine_id
from zmesh.errors import PeerLost, RequestTimeout
from zmesh.finding import Finding
from zmesh.joining import Membership
from zmesh.loop import finished
from zmesh.messenger import Messenger
from zmesh.model import now_ms
from zmesh.registry import Registry
from zmesh.renewal import Renewal
from zmesh.runtime.control import ControlPlane, IncidentNotice
from zmesh.runtime.control_notices import IncidentLog
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.ports import BoundSockets, bind_port_block
from zmesh.runtime.process import check_libzmq, keep_freed_memory, raise_file_limit
from zmesh.runtime.publishing import Publishing
from zmesh.runtime.sockets import endpoint_of
from zmesh.runtime.zmq_carrier import ZmqCarrier
from zmesh.security import Identity, Verifier
from zmesh.version import __version__
from zmesh.wire.limits import MAX_PART_BYTES

__all__ = ["NetworkInfo", "Node"]

logger = logging.getLogger("zmesh")

DRAIN_TIMEOUT_S: Final = 5.0
JOIN_PATIENCE_S: Final = 3.0  # how long join_network waits for an address it was given; discovery goes on after it
DATA_OPTIONS: Final = {zmq.MAXMSGSIZE: MAX_PART_BYTES}
PUBLISH_OPTIONS: Final = {
    zmq.MAXMSGSIZE: MAX_PART_BYTES,
    zmq.SNDHWM: 1024,  # frames for one subscriber; twice what the window holds, so only one that lags can reach it
    zmq.XPUB_VERBOSE: 1,  # every node's subscription is told, not the first one's to a topic only
}
MAX_SOCKETS: Final = 65_536  # ZeroMQ's default of 1,023 is about 250 peers


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

    def __init__(self, config: NetworkConfig, membership: Membership, report: Callable[[IncidentNotice], None]) -> None:
        """Binds the sockets. Raises ``ConfigurationError``, ``AddressInUse``; nothing is left open then."""
        check_libzmq()
        raise_file_limit()
        self.config = config
        self.membership = membership
        self._report = report
        self._loop = asyncio.get_running_loop()
        keep_freed_memory()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, min(MAX_SOCKETS, int(self._context.get(zmq.SOCKET_LIMIT))))
        self._listen_host, port = parse_address(config.listen) if config.listen is not None else ("*", None)
        try:
            self._control = self._make_control_plane()
            self._bound = self._bind(port)
        except BaseException:
            self._context.destroy(0)
            raise
        self.record = self._make_record()
        self.plane = self._make_data_plane()
        self.publishing = Publishing(self.plane)
        self.registry = Registry(self._control.last_heard_ms, self.plane.wall_ms)
        self.messenger = Messenger(
            self.plane,
            self.publishing,
            self.registry,
            request_timeout_s=config.request_timeout_s,
            handler_concurrency=config.handler_concurrency,
            agents_changed=self._agents_changed,
        )
        self._coordinator = Coordinator(
            self._loop, self.plane, self.publishing, self.registry, self.messenger, config.effective_timings, report
        )
        self._finding: Finding | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def _identity(self) -> Identity:
        return self.membership.claim.identity

    def _make_control_plane(self) -> ControlPlane:
        keystore, identity = self.membership.keystore, self._identity
        return ControlPlane(
            context=self._context,
            identity=identity,
            verifier=Verifier(identity.mesh_id, identity.authority_public),
            timings=self.config.effective_timings,
            authority=keystore.authority() if keystore.has_authority() else None,
            notify=lambda notice: self._coordinator.notify(notice),
            seed=int.from_bytes(os.urandom(8)),
        )

    def _bind(self, port: int | None) -> BoundSockets:
        return bind_port_block(
            self._context,
            self._identity,
            self._listen_host,
            port,
            data_options=DATA_OPTIONS,
            publish_options=PUBLISH_OPTIONS,
        )

    def _make_record(self) -> NodeRecord:
        base = self._bound.base_port
        return NodeRecord(
            node_id=self._identity.node_id,
            incarnation=now_ms(),
            version=1,
            certificate=self._identity.certificate,
            machine=machine_id(),
            hosts=advertised_hosts(self._listen_host, self.config.advertise),
            introduction_port=base,
            control_port=base + 1,
            data_port=base + 2,
            publish_port=base + 3,
            client=self.config.client,
            software=f"zmesh-agents {__version__}",
        )

    def _make_carrier(self) -> ZmqCarrier:
        keys = (self._identity.curve_public, self._identity.curve_secret)
        return ZmqCarrier(self._loop, self._context, keys, self._bound.data, self._bound.publish)

    def _make_data_plane(self) -> DataPlane:
        incidents = IncidentLog(self._report)  # told of once for each kind and source, like those of the control plane
        return DataPlane(
            loop=self._loop,
            carrier=self._make_carrier(),
            node_id=self._identity.node_id,
            incarnation=self.record.incarnation,
            window_bytes=self.config.window_bytes,
            max_message_bytes=self.config.max_message_bytes,
            idle_link_s=self.config.idle_link_s,
            incident=lambda kind, reason, source: incidents.report(kind, source, reason),
            peer_disconnected=self._control.disconnected,
        )

    # -- coming and going ----------------------------------------------------------------------------------------------

    async def start(self, addresses: Sequence[str]) -> None:
        """Begin to serve, and to look for others."""
        identity = self._identity
        self.registry.add_self(self.record, self.record.hosts[0] if self.record.hosts else "", identity.fingerprint)
        self._control.start(self._bound, self.record)
        self.plane.start()
        self.publishing.start()
        self._finding = Finding(
            mesh_id=identity.mesh_id,
            node_id=identity.node_id,
            incarnation=self.record.incarnation,
            port=self.record.introduction_port,
            listen_host=self._listen_host,
            advertise=self.config.advertise,
            addresses=tuple(dict.fromkeys((*addresses, *self.config.bootstrap, *self.membership.addresses))),
            mdns=self.config.mdns,
            dial=self._control.dial,
            hosts_changed=self._hosts_changed,
            failed=lambda way, reason: self._report(IncidentNotice("discovery_failed", reason, way, 1)),
        )
        await self._finding.start()
        self._dial_neighbours()
        self.membership.claim.announce(self.info().addresses)
        self._renewing = asyncio.create_task(self._make_renewal().run(), name="zmesh renewal")

    def _make_renewal(self) -> Renewal:
        return Renewal(
            self.membership.keystore,
            self.membership.claim,
            client=self.config.client,
            renewed=self._certificate_renewed,
            report=self._report,
        )

    def _dial_neighbours(self) -> None:
        """Other nodes of this key directory are on this machine: they need no discovery."""
        neighbours = [node for node in self.membership.keystore.running() if node.node_id != self.record.node_id]
        for neighbour in neighbours:
            self._control.dial([parse_peer_address(address) for address in neighbour.addresses], persistent=False)

    async def wait_until_found(self, addresses: Sequence[str]) -> None:
        """Wait, not for long, until somebody answers where the caller said that somebody is."""
        if not (addresses or self.config.bootstrap or self.membership.addresses):
            return
        try:
            await self.registry.wait_for_nodes(2, JOIN_PATIENCE_S)
        except RequestTimeout:
            given = ", ".join((*addresses, *self.config.bootstrap, *self.membership.addresses))
            reason = (
                f"nobody has answered at {given} within {JOIN_PATIENCE_S:g} s; they are asked again from time to time"
            )
            self._report(IncidentNotice("nobody_answered", reason, given, 1))

    async def stop(self) -> None:
        """Deliver what is on its way, say goodbye, close everything: that also where the delivering is cancelled."""
        try:
            if self._renewing is not None:
                self._renewing.cancel()
                await asyncio.gather(self._renewing, return_exceptions=True)
            left = await self.messenger.drain(DRAIN_TIMEOUT_S)
            if left:
                logger.warning("left the mesh with %d messages that were not acknowledged", left)
        finally:
            await finished(self._close())

    async def _close(self) -> None:
        if self._finding is not None:
            await self._finding.stop()
        self._coordinator.close()
        farewell = PeerLost("this node has left the mesh")
        self.publishing.close(farewell)
        self.messenger.close(farewell)
        await self.plane.close()
        await asyncio.to_thread(self._control.stop, goodbye=True)
        self.registry.close()
        await asyncio.to_thread(self._context.term)
        self.membership.claim.release()

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
            discovery=self._finding.states() if self._finding is not None else {},
            has_authority=self.membership.keystore.has_authority(),
            is_client=self.config.client,
        )

    def _agents_changed(self, agents: tuple[AgentRecord, ...]) -> None:
        self._control.update_record(agents=agents)
        self._change_record(agents=agents)

    def _hosts_changed(self, hosts: tuple[str, ...]) -> None:
        self._control.update_record(hosts=hosts)
        self._change_record(hosts=hosts)
        self.membership.claim.announce(self.info().addresses)

    def _certificate_renewed(self) -> None:
        certificate = self._identity.certificate
        self._control.update_record(certificate=certificate)
        self._change_record(certificate=certificate)

    def _change_record(self, **changes: object) -> None:
        self.record = replace(self.record, version=self.record.version + 1, **changes)  # type: ignore[arg-type]  # dataclasses.replace has no typed form for this
        self.registry.update_self(self.record)
