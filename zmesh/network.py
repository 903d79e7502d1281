"""``AgentNetwork``: one node of a mesh, as a program uses it. Composition only; the work is in the four components."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from zmesh.address import parse_peer_address
from zmesh.agent import Agent
from zmesh.config import NetworkConfig
from zmesh.errors import NotJoined, UsageError
from zmesh.events import EventStream
from zmesh.health import HealthCheck
from zmesh.maintenance import Unfinished
from zmesh.messenger import SYSTEM_AGENT
from zmesh.model import AgentMessage, now_ms
from zmesh.node import NetworkInfo, Node
from zmesh.planes import Planes
from zmesh.receipt import Receipt
from zmesh.registry import Registry
from zmesh.runtime.control_notices import IncidentNotice
from zmesh.runtime.counters import Statistics
from zmesh.runtime.mailbox import Handler

__all__ = ["AgentNetwork", "Incident", "NetworkInfo"]

logger = logging.getLogger("zmesh")

MAX_INCIDENTS: Final = 1000


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Something refused or gone wrong, told once for each kind and source; the counters have the rest."""

    kind: str
    reason: str
    source: str
    count: int


class AgentNetwork:
    """A node. ``join_network`` makes it one, ``leave_network`` ends it; ``async with`` does both.

    network = zmesh.AgentNetwork(zmesh.NetworkConfig(mesh="lab"))
    async with network:
        agent = await network.register_agent(7, ["summarize"], handler=summarize)
    """

    def __init__(self, config: NetworkConfig | None = None, planes: Planes | None = None) -> None:
        """``planes`` are ZeroMQ's, unless a simulation gives its own."""
        self._planes = planes
        self.config = config if config is not None else NetworkConfig()
        self._node: Node | None = None
        self._joining = asyncio.Lock()
        self._incidents: EventStream[Incident] = EventStream()
        self._past_incidents: deque[Incident] = deque(maxlen=MAX_INCIDENTS)

    async def join_network(self, addresses: Sequence[str] = ()) -> None:
        """Become a node of the mesh, and look for others at ``addresses`` and by every way of discovery.

        The first node of a home directory without a mesh founds one. Returns once this node can be found; where
        addresses were given, after one of them has answered or 3 s. An address nobody answers at is asked again for as
        long as the node lives. Where joining fails or is cancelled, nothing of the node is left. Raises
        ``ConfigurationError`` (``AddressInUse``, ``KeystoreError``), ``InvitationError``, ``UsageError``.
        """
        for address in addresses:
            parse_peer_address(address)
        async with self._joining:
            if self._node is not None:
                raise UsageError("this network has joined already")
            node = await self._start(addresses)
        try:
            await node.wait_until_found(addresses)
        except asyncio.CancelledError:
            if self._is(node):
                await self.leave_network()
            raise

    async def _start(self, addresses: Sequence[str]) -> Node:
        planes = self._planes if self._planes is not None else _zmq_planes()
        standing = await planes.take_standing(self.config)
        try:
            node = Node(self.config, planes, standing, self._report)
        except BaseException:
            standing.release()
            raise
        self._node = node
        try:
            await node.start(addresses)
        except BaseException:
            self._node = None
            await node.stop()
            raise
        return node

    async def leave_network(self) -> None:
        """Deliver what is on its way, say goodbye, close everything. Does nothing where nothing was joined.

        Where it is cancelled, it waits for no more acknowledgements, and closes everything all the same.
        """
        async with self._joining:
            node, self._node = self._node, None
            if node is not None:
                try:
                    await node.stop()
                finally:
                    self._incidents.close()
                    self._incidents = EventStream()  # of the next time it joins

    async def __aenter__(self) -> Self:
        await self.join_network()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.leave_network()

    # -- agents and messages -------------------------------------------------------------------------------------------

    async def register_agent(
        self,
        agent_id: int,
        capabilities: Sequence[str] = (),
        handler: Handler | None = None,
        metadata: Mapping[str, str] | None = None,
        *,
        health: HealthCheck | None = None,
    ) -> Agent:
        """Put an agent on this node and tell the mesh.

        ``handler(message) -> bytes | None``, plain or a coroutine function, gets every message; what it returns
        answers a request. Without one, iterate over the agent.

        With ``health`` the agent is asked whether it is well. Until its first check has passed, and after one has
        failed until one passes, nobody chooses it by capability; it is listed as INACTIVE, and what is sent to its id
        or its groups still comes. Raises ``AgentExists``, ``ConfigurationError``, ``NotJoined``.
        """
        return self._joined.messenger.register(agent_id, capabilities, handler, metadata, health)

    async def unregister_agent(self, agent_id: int) -> None:
        """Take an agent of this node off the mesh. Raises ``UnknownAgent``, ``NotJoined``."""
        await self._joined.messenger.unregister(agent_id)

    async def send_message(self, message: AgentMessage) -> Receipt:
        """Send a message with the id, time, type, priority and ttl it has. Raises as ``Agent.send`` does."""
        return await self._joined.messenger.send_message(message)

    async def broadcast_message(self, payload: bytes) -> Receipt:
        """Send to every agent of the mesh, those of this node included; it comes from agent 0."""
        return await self._joined.messenger.publish(SYSTEM_AGENT, None, payload)

    # -- out of service and back ---------------------------------------------------------------------------------------

    def set_maintenance(self, is_on: bool) -> None:
        """Ask for no new work, or for work again: this node and its agents are in MAINTENANCE, and the mesh is told.

        Nobody who has heard of it, this node included, chooses an agent of it by capability. What is sent to its agents
        by id, or to their groups, comes as before, and handlers go on. Raises ``NotJoined``.
        """
        self._joined.maintenance.set(is_on)

    async def drain(self, timeout_s: float = 30.0) -> Unfinished:
        """Go into maintenance and wait until the work that is here is done; what is left of it after ``timeout_s``.

        Done is when others have had two heartbeat intervals to hear of the maintenance, no handler runs, no message
        waits for one or to be read, and every node that can be reached has what was sent to it. What comes by id
        meanwhile counts as well. The node stays in maintenance. A handler that waits for this waits for itself. Raises
        ``UsageError``, ``NotJoined``.
        """
        return await self._joined.maintenance.drain(timeout_s)

    # -- what there is to see ------------------------------------------------------------------------------------------

    @property
    def registry(self) -> Registry:
        """Who is there. Raises ``NotJoined``."""
        return self._joined.registry

    @property
    def node_id(self) -> str:
        """This node's name. Raises ``NotJoined``, since it may be chosen on joining."""
        return self._joined.record.node_id

    @property
    def is_joined(self) -> bool:
        """Whether the network is joined."""
        return self._node is not None

    def info(self) -> NetworkInfo:
        """This node, its addresses, and how its ways of discovery fare. Raises ``NotJoined``."""
        return self._joined.info()

    def statistics(self) -> Statistics:
        """The counters of this moment, frozen: setting one raises ``AttributeError``. Raises ``NotJoined``."""
        return self._joined.plane.statistics.frozen()

    def invite(self, valid_s: float = 3600.0) -> str:
        """A join string for one more machine: a secret, good once, for ``valid_s`` seconds.

        Raises ``KeystoreError`` where this machine did not found the mesh, ``NotJoined``.
        """
        node = self._joined
        return node.standing.authority().create_invitation(now_ms(), int(valid_s * 1000), node.info().addresses[:16])

    def incidents(self) -> AsyncIterator[Incident]:
        """What was refused or went wrong: the last 1,000, and then each as it happens, until the network is left."""
        return self._incidents.watch(lambda: tuple(self._past_incidents))

    def _is(self, node: Node) -> bool:
        return self._node is node

    @property
    def _joined(self) -> Node:
        if self._node is None:
            raise NotJoined("this network is not joined: await network.join_network() first, or use it with async with")
        return self._node

    def _report(self, notice: IncidentNotice) -> None:
        logger.warning("%s: %s (%s)", notice.kind, notice.reason, notice.source)
        incident = Incident(kind=notice.kind, reason=notice.reason, source=notice.source, count=notice.count)
        self._past_incidents.append(incident)
        self._incidents.emit(incident)

    def __repr__(self) -> str:
        return f"AgentNetwork({self._node.record.node_id!r})" if self._node is not None else "AgentNetwork(not joined)"


def _zmq_planes() -> Planes:
    from zmesh.zeromq import ZmqPlanes  # a simulated network needs no sockets, and loads none

    return ZmqPlanes()
