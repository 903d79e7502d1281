"""The planes of a simulated node: ``AgentNetwork`` as it is, with nothing real below it.

Membership, sessions, topics, mailboxes and the codec are zmesh's own; frames travel as the bytes that they are. The
control plane is the membership machine as the simulator hosts it, on the node's own loop: so a paused node is silent
on both planes. Not simulated are ZeroMQ, keys and certificates, enrolment, and mDNS, in whose place every node finds
every other that is joined.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from zmesh.address import parse_peer_address
from zmesh.config import NetworkConfig
from zmesh.core.membership.member import NodeRecord
from zmesh.errors import KeystoreError, UsageError
from zmesh.planes import Standing
from zmesh.runtime.control_notices import ControlNotice, IncidentNotice
from zmesh.security import Authority, Identity, RunningNode
from zmesh.testing.carrier import CARRIED, SimulatedCarrier
from zmesh.testing.control import ControlProcess, SimulatedControl, is_control, key_of, membership_timings
from zmesh.testing.host import Host
from zmesh.testing.loop import VirtualLoop

__all__ = ["SimulatedPlanes"]

SEARCH_INTERVAL_S: Final = 1.0


class SimulatedStanding:
    """A name, and keys that open nothing."""

    addresses: tuple[str, ...] = ()

    def __init__(self, node_id: str, mesh: str) -> None:
        self.identity = Identity(
            node_id=node_id,
            mesh=mesh,
            mesh_id=hashlib.blake2b(mesh.encode(), digest_size=16).hexdigest(),
            curve_public=key_of(node_id),
            curve_secret=b"",
            signing_seed=b"",
            certificate=b"",
            authority_public=b"",
            gate_public=b"",
            gate_secret=b"",
        )

    def has_authority(self) -> bool:
        """Never."""
        return False

    def authority(self) -> Authority:
        """There is none."""
        raise KeystoreError("nobody is invited to a simulated mesh: start another host")

    def neighbours(self) -> Sequence[RunningNode]:
        """Nobody: every host is a machine of its own."""
        return ()

    def announce(self, addresses: Sequence[str]) -> None:
        """To nobody."""

    async def keep_renewed(
        self, *, client: bool, renewed: Callable[[], None], report: Callable[[IncidentNotice], None]
    ) -> None:
        """It never ends."""
        await asyncio.get_running_loop().create_future()

    def release(self) -> None:
        """Nobody else wants it."""


class SimulatedSearch:
    """In place of mDNS and of names to be resolved: dials who is joined, and whoever is at the addresses given."""

    def __init__(self, host: Host, control: ControlProcess, addresses: Sequence[str], everybody: bool) -> None:
        self._host = host
        self._control = control
        self._given = [parse_peer_address(address)[0] for address in addresses]
        self._everybody = everybody
        self._searching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._searching = asyncio.create_task(self._search(), name="zmesh search")

    async def stop(self) -> None:
        """End."""
        if self._searching is not None:
            self._searching.cancel()
            await asyncio.gather(self._searching, return_exceptions=True)

    def states(self) -> dict[str, str]:
        """For people."""
        return {"simulated": "running"}

    async def _search(self) -> None:
        while True:
            known = self._control.view()
            for address in dict.fromkeys((*self._given, *(self._host.world.hosts if self._everybody else ()))):
                if address != self._host.address and address not in known:
                    self._control.dial("", (address,))
            await asyncio.sleep(SEARCH_INTERVAL_S)


class OpenSimulatedPlanes:
    """See ``OpenPlanes``."""

    def __init__(
        self, host: Host, loop: VirtualLoop, config: NetworkConfig, notify: Callable[[ControlNotice], None]
    ) -> None:
        self._host = host
        self._config = config
        self.carrier = SimulatedCarrier(host, loop)
        timings = membership_timings(config.effective_timings)
        self.process = ControlProcess(host, timings, config.client, notify)
        self.control = SimulatedControl(self.process)
        self.is_serving = False  # the control plane
        self.is_open = True

    def make_record(self) -> NodeRecord:
        """As the control plane has made it."""
        return self.process.record

    def new_search(
        self,
        record: NodeRecord,
        addresses: Sequence[str],
        hosts_changed: Callable[[tuple[str, ...]], None],
        failed: Callable[[str, str], None],
    ) -> SimulatedSearch:
        """By the simulator's own knowledge, where mDNS is switched on, and at the addresses given."""
        return SimulatedSearch(self._host, self.process, addresses, self._config.mdns)

    def start_control(self, record: NodeRecord) -> None:
        """Begin to serve."""
        self.is_serving = True
        self.process.start(self._host.now)

    async def stop_control(self) -> None:
        """Say goodbye."""
        if self.is_serving:
            self.process.leave(self._host.now)
            self.process.close()
            self.is_serving = False

    async def close(self) -> None:
        """Take in nothing more."""
        self.is_open = False


class SimulatedPlanes:
    """Those of the programs on one host: ``AgentNetwork(config, place.planes)``. One network at a time."""

    def __init__(self, host: Host, loop: VirtualLoop) -> None:
        self._host = host
        self._loop = loop
        self._open: OpenSimulatedPlanes | None = None

    async def take_standing(self, config: NetworkConfig) -> SimulatedStanding:
        """Raises ``UsageError`` for a node that is not called as its host is."""
        if config.node_id not in (None, self._host.identity):
            raise UsageError(f"on the simulated host {self._host.identity} a node has that name, not {config.node_id}")
        return SimulatedStanding(self._host.identity, config.mesh_name)

    def open(
        self, config: NetworkConfig, standing: Standing, notify: Callable[[ControlNotice], None]
    ) -> OpenSimulatedPlanes:
        """Raises ``UsageError`` where a network is joined here already."""
        if self._open is not None and self._open.is_open:
            raise UsageError(f"a network is joined on the simulated host {self._host.identity} already")
        self._open = OpenSimulatedPlanes(self._host, self._loop, config, notify)
        return self._open

    # -- for the process -----------------------------------------------------------------------------------------------

    def receive(self, now: float, sender: str, message: Any) -> bool:
        """Whether the message is one of a network's, and taken in."""
        planes = self._open
        if isinstance(message, CARRIED):
            if planes is not None and planes.is_open:
                self._loop.call_soon(planes.carrier.take, sender, message)
            return True
        if is_control(message):
            if planes is not None and planes.is_serving:
                planes.process.receive(now, sender, message)
            return True
        return False

    def disconnected(self, now: float, peer: str) -> None:
        """Connections with that host have closed."""
        if self._open is not None and self._open.is_open:
            self._loop.call_soon(self._open.carrier.disconnected, peer)
            if self._open.is_serving:
                self._open.process.disconnected(now, peer)

    def handle_timeout(self, now: float) -> None:
        """Do what has fallen due."""
        due = self.next_deadline()
        if due is not None and due <= now and self._open is not None:
            self._open.process.handle_timeout(now)

    def next_deadline(self) -> float | None:
        """The control plane's."""
        return self._open.process.next_deadline() if self._open is not None and self._open.is_serving else None
