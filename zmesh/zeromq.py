"""The planes of a real node: keys on a disk, four sockets of ZeroMQ, a control thread, discovery on the network."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

import zmq

from zmesh.address import parse_address
from zmesh.config import NetworkConfig
from zmesh.core.membership.member import NodeRecord
from zmesh.discovery.interfaces import advertised_hosts, machine_id
from zmesh.errors import NetworkError
from zmesh.finding import Finding
from zmesh.joining import Membership, take_identity
from zmesh.planes import Standing
from zmesh.runtime.control import ControlPlane
from zmesh.runtime.control_notices import ControlNotice
from zmesh.runtime.ports import BoundSockets, bind_port_block
from zmesh.runtime.process import check_libzmq, keep_freed_memory, raise_file_limit
from zmesh.runtime.signs import Signs
from zmesh.runtime.zmq_carrier import ZmqCarrier
from zmesh.security import Verifier
from zmesh.version import __version__
from zmesh.wire.limits import MAX_PART_BYTES

__all__ = ["OpenZmqPlanes", "ZmqPlanes"]

DATA_OPTIONS: Final = {zmq.MAXMSGSIZE: MAX_PART_BYTES}
PUBLISH_OPTIONS: Final = {
    zmq.MAXMSGSIZE: MAX_PART_BYTES,
    zmq.SNDHWM: 1024,  # frames for one subscriber; twice what the window holds, so only one that lags can reach it
    zmq.XPUB_VERBOSE: 1,  # every node's subscription is told, not the first one's to a topic only
}
MAX_SOCKETS: Final = 65_536  # ZeroMQ's default of 1,023 is about 250 peers


class ZmqPlanes:
    """See ``Planes``."""

    async def take_standing(self, config: NetworkConfig) -> Membership:
        """Off the loop, as it waits for disks and distant machines."""
        abandoned = threading.Event()
        taking = asyncio.ensure_future(asyncio.to_thread(take_identity, config, abandoned.is_set))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            abandoned.set()
            with contextlib.suppress(NetworkError):
                (await taking).release()
            raise

    def open(self, config: NetworkConfig, standing: Standing, notify: Callable[[ControlNotice], None]) -> OpenZmqPlanes:
        """Bind the sockets."""
        return OpenZmqPlanes(config, standing, notify)


class OpenZmqPlanes:
    """See ``OpenPlanes``."""

    def __init__(self, config: NetworkConfig, standing: Standing, notify: Callable[[ControlNotice], None]) -> None:
        check_libzmq()
        raise_file_limit()
        keep_freed_memory()
        self._config = config
        self._standing = standing
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, min(MAX_SOCKETS, int(self._context.get(zmq.SOCKET_LIMIT))))
        self._signs = Signs()
        self._listen_host, port = parse_address(config.listen) if config.listen is not None else ("*", None)
        try:
            self.control = self._make_control(notify)
            self._bound = self._bind(port)
        except BaseException:
            self._context.destroy(0)
            raise
        identity = standing.identity
        self.carrier = ZmqCarrier(
            asyncio.get_running_loop(),
            self._context,
            (identity.curve_public, identity.curve_secret),
            self._bound.data,
            self._bound.publish,
            self._signs,
        )

    def _make_control(self, notify: Callable[[ControlNotice], None]) -> ControlPlane:
        standing, identity = self._standing, self._standing.identity
        return ControlPlane(
            context=self._context,
            identity=identity,
            verifier=Verifier(identity.mesh_id, identity.authority_public),
            timings=self._config.effective_timings,
            authority=standing.authority() if standing.has_authority() else None,
            notify=notify,
            seed=int.from_bytes(os.urandom(8)),
            signs=self._signs,
        )

    def _bind(self, port: int | None) -> BoundSockets:
        return bind_port_block(
            self._context,
            self._standing.identity,
            self._listen_host,
            port,
            data_options=DATA_OPTIONS,
            publish_options=PUBLISH_OPTIONS,
        )

    def make_record(self) -> NodeRecord:
        """As the sockets are bound."""
        base = self._bound.base_port
        return NodeRecord(
            node_id=self._standing.identity.node_id,
            incarnation=self._standing.incarnation,
            version=1,
            certificate=self._standing.identity.certificate,
            machine=machine_id(),
            hosts=advertised_hosts(self._listen_host, self._config.advertise),
            introduction_port=base,
            control_port=base + 1,
            data_port=base + 2,
            publish_port=base + 3,
            client=self._config.client,
            software=f"zmesh-agents {__version__}",
        )

    def new_search(
        self,
        record: NodeRecord,
        addresses: Sequence[str],
        hosts_changed: Callable[[tuple[str, ...]], None],
        failed: Callable[[str, str], None],
    ) -> Finding:
        """By mDNS, and at the addresses given."""
        return Finding(
            mesh_id=self._standing.identity.mesh_id,
            node_id=record.node_id,
            incarnation=record.incarnation,
            port=record.introduction_port,
            listen_host=self._listen_host,
            advertise=self._config.advertise,
            addresses=addresses,
            mdns=self._config.mdns,
            dial=self.control.dial,
            hosts_changed=hosts_changed,
            failed=failed,
        )

    def start_control(self, record: NodeRecord) -> None:
        """Start its thread."""
        self.control.start(self._bound, record)

    async def stop_control(self) -> None:
        """Say goodbye, and wait for the thread."""
        await asyncio.to_thread(self.control.stop, goodbye=True)

    async def close(self) -> None:
        """Wait until ZeroMQ has sent what it may still send."""
        await asyncio.to_thread(self._context.term)
