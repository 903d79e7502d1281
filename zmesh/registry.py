"""The Agent Registry: who is there, and where a message for an agent or a capability goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Final

from zmesh.core.membership.member import AgentRecord, MemberEvent, MemberEventKind, NodeRecord
from zmesh.directory import Directory
from zmesh.errors import PeerLost, RequestTimeout, UnknownAgent
from zmesh.events import EventStream
from zmesh.listing import ListedNode, RegistryEvent, RegistryEventKind
from zmesh.model import AgentNode, Capability, NodeInfo, NodeStatus

__all__ = ["Registry"]


_LIVENESS_AFTER: Final = {  # a change of its record says nothing new of it
    MemberEventKind.JOINED: NodeStatus.ACTIVE,
    MemberEventKind.RESTARTED: NodeStatus.ACTIVE,
    MemberEventKind.RECOVERED: NodeStatus.ACTIVE,
    MemberEventKind.SUSPECTED: NodeStatus.INACTIVE,
    MemberEventKind.DIED: NodeStatus.DISCONNECTED,
    MemberEventKind.LEFT: NodeStatus.DISCONNECTED,
}
_KIND_OF: Final = {kind: RegistryEventKind[f"NODE_{kind.name}"] for kind in MemberEventKind}


class Registry:
    """Nodes and agents as this process knows them; made and fed by ``AgentNetwork``."""

    def __init__(self, last_heard_ms: Callable[[str], int | None], wall_ms: Callable[[], int]) -> None:
        self._nodes: dict[str, ListedNode] = {}
        self._directory = Directory()
        self._events: EventStream[RegistryEvent] = EventStream()
        self._last_heard_ms, self._wall_ms = last_heard_ms, wall_ms
        self._changed = asyncio.Event()

    # -- what a user asks --------------------------------------------------------------------------------------------

    def nodes(self, status: NodeStatus | None = None) -> list[NodeInfo]:
        """All nodes known, this one included, by name."""
        infos = (self._info(self._nodes[node_id]) for node_id in sorted(self._nodes))
        return [info for info in infos if status is None or info.status is status]

    def agents(
        self, capability: str | None = None, status: NodeStatus | None = None, node_id: str | None = None
    ) -> list[AgentNode]:
        """All agents known that match, by agent id.

        An agent has the ``status`` of its node; on a node that is up, one whose health check fails is INACTIVE. Those
        of a node that is taken for dead are DISCONNECTED, and listed while messages for them are held
        (``resume_window_s``): with ``NodeStatus.ACTIVE`` only those that can answer now.
        """
        found = [
            node.agent(record, self._heard(node))
            for node in self._nodes.values()
            if node_id is None or node.record.node_id == node_id
            for record in node.record.agents
            if capability is None or capability in record.capabilities
        ]
        matching = [agent for agent in found if status is None or agent.status is status]
        return sorted(matching, key=lambda agent: (agent.agent_id, agent.node_id))

    def agent(self, agent_id: int) -> AgentNode | None:
        """The agent with that id, on the node its messages go to; None where nobody knows it."""
        node_id = self.home_of(agent_id)
        if node_id is None:
            return None
        node = self._nodes[node_id]
        return next(
            node.agent(record, self._heard(node)) for record in node.record.agents if record.agent_id == agent_id
        )

    def watch(self) -> AsyncIterator[RegistryEvent]:
        """A snapshot, and then every change of ``nodes()`` and ``agents()`` exactly once, in order and without gaps.

        The snapshot is what is there when the iteration begins, as NODE_JOINED and AGENT_ADDED (and NODE_SUSPECTED or
        NODE_DIED, where that is so). Whoever folds the events (``RegistryView`` does) has at each moment what the
        registry had after the last of them, up to ``last_heartbeat``, which is told with other changes only.

        A change of a node is told once, and not for each of its agents: they have its address and, while they are
        well, its status. A node that dies keeps its agents, as DISCONNECTED, for ``resume_window_s``: it may only be
        suspended. AGENT_REMOVED comes when its session is given up; a node that is back before then brings no new
        AGENT_ADDED.

        Events wait for a slow reader, 65,536 beyond the snapshot at most. One that is farther behind is given all
        before the first that had no room, and then ``NetworkError``: watch again, from a new snapshot. Nobody else
        waits for it or misses anything. The iteration ends with the network.
        """
        return self._events.watch(self._snapshot)

    def _snapshot(self) -> list[RegistryEvent]:
        events = []
        for node in self._nodes.values():
            events.append(self._event(node, RegistryEventKind.NODE_JOINED))
            events += self._agent_events(node, RegistryEventKind.AGENT_ADDED, node.record.agents)
            if node.status is NodeStatus.INACTIVE:
                events.append(self._event(node, RegistryEventKind.NODE_SUSPECTED))
            elif node.status is NodeStatus.DISCONNECTED:
                events.append(self._event(node, RegistryEventKind.NODE_DIED))
        return events

    async def wait_for_agent(self, agent_id: int, timeout_s: float = 10.0) -> AgentNode:
        """Wait until an agent is known. Raises ``RequestTimeout`` after ``timeout_s`` seconds."""
        await self._wait(lambda: self.home_of(agent_id) is not None, timeout_s, f"agent {agent_id} did not appear")
        agent = self.agent(agent_id)
        if agent is None:
            raise UnknownAgent(f"agent {agent_id} has gone again")
        return agent

    async def wait_for_capability(self, capability: str, timeout_s: float = 10.0) -> AgentNode:
        """Wait until an active agent has a capability. Raises ``RequestTimeout`` after ``timeout_s`` seconds."""
        complaint = f"no active agent with the capability {capability!r} appeared"
        await self._wait(lambda: bool(self.agents(capability, NodeStatus.ACTIVE)), timeout_s, complaint)
        return self.agents(capability, NodeStatus.ACTIVE)[0]

    async def wait_for_nodes(self, number: int, timeout_s: float = 10.0) -> None:
        """Wait until ``number`` nodes are active, this one included. Raises ``RequestTimeout``."""
        await self._wait(
            lambda: len(self.nodes(NodeStatus.ACTIVE)) >= number, timeout_s, f"fewer than {number} nodes are active"
        )

    async def _wait(self, condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise RequestTimeout(f"{complaint} within {timeout_s:g} s") from None

    # -- where messages go -------------------------------------------------------------------------------------------

    def home_of(self, agent_id: int) -> str | None:
        """The node a message for that agent goes to: of several that claim it, the first known that is up."""
        homes = [node_id for node_id in self._directory.homes_of(agent_id) if self._nodes[node_id].routable]
        return next(filter(self._is_up, homes), homes[0] if homes else None)

    def incarnation_of(self, node_id: str) -> int:
        """The current incarnation of a node; 0 where there has been none."""
        node = self._nodes.get(node_id)
        return node.record.incarnation if node is not None else 0

    def check_alive(self, node_id: str) -> None:
        """Raises ``PeerLost`` for a node that has been declared dead and not been heard from since."""
        if self._nodes[node_id].status is NodeStatus.DISCONNECTED:
            raise PeerLost(f"node {node_id} is silent and taken for dead: ask again when it is back")

    def choose(self, capability: Capability) -> int:
        """An active agent with a capability, each in its turn. Raises ``UnknownAgent``."""
        return self._directory.choose(capability.name, self._takes_work)

    def _is_up(self, node_id: str) -> bool:
        return self._nodes[node_id].liveness is NodeStatus.ACTIVE

    def _takes_work(self, node_id: str) -> bool:
        return self._nodes[node_id].status is NodeStatus.ACTIVE

    # -- what the coordinator reports ----------------------------------------------------------------------------------

    def add_self(self, record: NodeRecord, host: str, fingerprint: str) -> None:
        """This node itself."""
        node = self._nodes[record.node_id] = ListedNode(record, host, fingerprint, self._wall_ms(), is_self=True)
        self._emit(self._event(node, RegistryEventKind.NODE_JOINED))

    def update_self(self, record: NodeRecord) -> None:
        """This node's own record changed."""
        node = self._nodes[record.node_id]
        old, node.record = node.record, replace(record, agents=node.record.agents)
        if replace(node.record, version=old.version, publishes=old.publishes) != old:  # what is not listed
            self._emit(self._event(node, RegistryEventKind.NODE_CHANGED))
        self._replace_agents(node, record.agents, has_moved=old.data_port != record.data_port)

    def apply(self, event: MemberEvent, host: str, fingerprint: str) -> None:
        """A change of the membership."""
        record = event.record
        node = self._nodes.get(record.node_id)
        if node is None:
            node = self._nodes[record.node_id] = ListedNode(
                replace(record, agents=()), host, fingerprint, self._wall_ms()
            )
        node.host, node.fingerprint = host or node.host, fingerprint or node.fingerprint
        node.liveness = _LIVENESS_AFTER.get(event.kind, node.liveness)
        node.heard_ms = self._wall_ms()
        has_moved = node.record.data_port != record.data_port
        node.record = replace(record, agents=node.record.agents)  # of its agents the events below tell one by one
        node.routable = node.routable or node.liveness is not NodeStatus.DISCONNECTED
        if event.kind is MemberEventKind.LEFT:
            self.forget_agents(record.node_id)
        self._emit(self._event(node, _KIND_OF[event.kind], event.reason))
        if event.kind is not MemberEventKind.LEFT:
            self._replace_agents(node, record.agents, has_moved)

    def forget_agents(self, node_id: str) -> None:
        """Messages for this node can no longer be held: its agents are unknown until it returns."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.routable = False
            self._replace_agents(node, ())

    def forget(self, node_id: str) -> None:
        """The node has been gone for so long that it is not listed any more."""
        self.forget_agents(node_id)
        node = self._nodes.pop(node_id, None)
        if node is not None:
            self._emit(self._event(node, RegistryEventKind.NODE_FORGOTTEN))

    def close(self) -> None:
        """Watchers end."""
        self._events.close()

    def _replace_agents(self, node: ListedNode, agents: tuple[AgentRecord, ...], has_moved: bool = False) -> None:
        before = {agent.agent_id: agent for agent in node.record.agents}
        after = {agent.agent_id: agent for agent in agents}
        gone = [agent for agent_id, agent in before.items() if agent_id not in after]
        added = [agent for agent_id, agent in after.items() if agent_id not in before]
        kept = [agent for agent_id, agent in after.items() if agent_id in before]
        changed = [agent for agent in kept if has_moved or before[agent.agent_id] != agent]
        node_id = node.record.node_id
        for agent in gone:
            self._directory.remove(node_id, agent)
        for agent in changed:
            self._directory.change(node_id, before[agent.agent_id], agent)
        for agent in added:
            self._directory.add(node_id, agent)
        node.record = replace(node.record, agents=agents)
        self._emit(*self._agent_events(node, RegistryEventKind.AGENT_REMOVED, gone))
        self._emit(*self._agent_events(node, RegistryEventKind.AGENT_CHANGED, changed))
        self._emit(*self._agent_events(node, RegistryEventKind.AGENT_ADDED, added))

    # -- views and events --------------------------------------------------------------------------------------------

    def _heard(self, node: ListedNode) -> int:
        if node.is_self:
            return self._wall_ms()
        return max(node.heard_ms, self._last_heard_ms(node.record.node_id) or 0)

    def _info(self, node: ListedNode) -> NodeInfo:
        return node.info(self._heard(node))

    def _event(self, node: ListedNode, kind: RegistryEventKind, reason: str = "") -> RegistryEvent:
        return RegistryEvent(kind=kind, node=self._info(node), reason=reason)

    def _agent_events(
        self, node: ListedNode, kind: RegistryEventKind, agents: Iterable[AgentRecord]
    ) -> list[RegistryEvent]:
        info = self._info(node)  # once: it is as long as the node has agents
        return [RegistryEvent(kind=kind, node=info, agent=node.agent(one, info.last_heartbeat)) for one in agents]

    def _emit(self, *events: RegistryEvent) -> None:
        self._changed.set()
        for event in events:
            self._events.emit(event)
