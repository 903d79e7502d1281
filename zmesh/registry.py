"""The Agent Registry: who is there, and where a message for an agent or a capability goes."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

import msgspec

from zmesh.core.membership.messages import AgentRecord, MemberEvent, MemberEventKind, NodeRecord
from zmesh.directory import Directory
from zmesh.errors import PeerLost, RequestTimeout, UnknownAgent
from zmesh.events import EventStream
from zmesh.model import AgentNode, Capability, NodeInfo, NodeStatus

__all__ = ["Registry", "RegistryEvent", "RegistryEventKind"]


class RegistryEventKind(enum.Enum):
    """What happened."""

    NODE_JOINED = "node_joined"
    NODE_CHANGED = "node_changed"
    NODE_RESTARTED = "node_restarted"
    NODE_SUSPECTED = "node_suspected"
    NODE_RECOVERED = "node_recovered"
    NODE_DIED = "node_died"
    NODE_LEFT = "node_left"
    AGENT_ADDED = "agent_added"
    AGENT_REMOVED = "agent_removed"


class RegistryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change. ``agent`` is set for the two events of agents; ``reason`` says why a node was suspected or died."""

    kind: RegistryEventKind
    node: NodeInfo
    agent: AgentNode | None = None
    reason: str = ""


_STATUS_AFTER: Final = {
    MemberEventKind.JOINED: NodeStatus.ACTIVE,
    MemberEventKind.CHANGED: NodeStatus.ACTIVE,
    MemberEventKind.RESTARTED: NodeStatus.ACTIVE,
    MemberEventKind.RECOVERED: NodeStatus.ACTIVE,
    MemberEventKind.SUSPECTED: NodeStatus.INACTIVE,
    MemberEventKind.DIED: NodeStatus.DISCONNECTED,
    MemberEventKind.LEFT: NodeStatus.DISCONNECTED,
}
_KIND_OF: Final = {kind: RegistryEventKind[f"NODE_{kind.name}"] for kind in MemberEventKind}


class _Node:
    """A node as known here. ``routable`` is false once messages for it can no longer be held."""

    __slots__ = ("fingerprint", "heard_ms", "host", "is_self", "record", "routable", "status")

    def __init__(self, record: NodeRecord, host: str, fingerprint: str, heard_ms: int, is_self: bool = False) -> None:
        self.record = record
        self.host = host
        self.fingerprint = fingerprint
        self.is_self = is_self
        self.status = NodeStatus.ACTIVE
        self.routable = True
        self.heard_ms = heard_ms


class Registry:
    """Nodes and agents as this process knows them; made and fed by ``AgentNetwork``."""

    def __init__(self, last_heard_ms: Callable[[str], int | None], wall_ms: Callable[[], int]) -> None:
        self._nodes: dict[str, _Node] = {}
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
        """All agents known that match, by agent id. An agent has the ``status`` of its node.

        Those of a node that is taken for dead are DISCONNECTED, and listed while messages for them are held
        (``resume_window_s``): with ``NodeStatus.ACTIVE`` only those that can answer now.
        """
        found = [
            _agent(node, record, self._heard(node))
            for node in self._nodes.values()
            if (status is None or node.status is status) and (node_id is None or node.record.node_id == node_id)
            for record in node.record.agents
            if capability is None or capability in record.capabilities
        ]
        return sorted(found, key=lambda agent: (agent.agent_id, agent.node_id))

    def agent(self, agent_id: int) -> AgentNode | None:
        """The agent with that id, on the node its messages go to; None where nobody knows it."""
        node_id = self.home_of(agent_id)
        if node_id is None:
            return None
        node = self._nodes[node_id]
        return next(_agent(node, r, self._heard(node)) for r in node.record.agents if r.agent_id == agent_id)

    def watch(self) -> AsyncIterator[RegistryEvent]:
        """Every change, in order and without gaps, after what is there already as NODE_JOINED and AGENT_ADDED.

        A node that dies keeps its agents, as DISCONNECTED, for ``resume_window_s``: it may only be suspended.
        AGENT_REMOVED comes when its session is given up; a node that is back before then brings no new AGENT_ADDED. So
        who wants to know whether an agent can answer now looks at NODE_DIED and NODE_RECOVERED as well, or at
        ``status``.

        The iteration raises ``NetworkError`` for a watcher that is 65,536 events behind, and ends with the network.
        """
        return self._events.watch(self._snapshot())

    def _snapshot(self) -> list[RegistryEvent]:
        events = []
        for node in self._nodes.values():
            events.append(self._event(node, RegistryEventKind.NODE_JOINED))
            events += [self._agent_event(node, record, RegistryEventKind.AGENT_ADDED) for record in node.record.agents]
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
        return next(filter(self._is_active, homes), homes[0] if homes else None)

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
        return self._directory.choose(capability.name, self._is_active)

    def _is_active(self, node_id: str) -> bool:
        return self._nodes[node_id].status is NodeStatus.ACTIVE

    # -- what the coordinator reports ----------------------------------------------------------------------------------

    def add_self(self, record: NodeRecord, host: str, fingerprint: str) -> None:
        """This node itself."""
        node = self._nodes[record.node_id] = _Node(record, host, fingerprint, self._wall_ms(), is_self=True)
        self._emit(self._event(node, RegistryEventKind.NODE_JOINED))

    def update_self(self, record: NodeRecord) -> None:
        """This node's own record changed."""
        self._replace_record(self._nodes[record.node_id], record)

    def apply(self, event: MemberEvent, host: str, fingerprint: str) -> None:
        """A change of the membership."""
        record = event.record
        node = self._nodes.get(record.node_id)
        if node is None:
            node = self._nodes[record.node_id] = _Node(_without_agents(record), host, fingerprint, self._wall_ms())
        node.host, node.fingerprint = host or node.host, fingerprint or node.fingerprint
        node.status = _STATUS_AFTER[event.kind]
        if record.maintenance and node.status is NodeStatus.ACTIVE:
            node.status = NodeStatus.MAINTENANCE
        node.heard_ms = self._wall_ms()
        node.record = replace(record, agents=node.record.agents)  # of its agents the events below tell one by one
        node.routable = node.routable or node.status is not NodeStatus.DISCONNECTED
        if event.kind is MemberEventKind.LEFT:
            self.forget_agents(record.node_id)
        self._emit(self._event(node, _KIND_OF[event.kind], event.reason))
        if event.kind is not MemberEventKind.LEFT:
            self._replace_record(node, record)

    def forget_agents(self, node_id: str) -> None:
        """Messages for this node can no longer be held: its agents are unknown until it returns."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.routable = False
            self._replace_record(node, _without_agents(node.record))

    def forget(self, node_id: str) -> None:
        """The node has been gone for so long that it is not listed any more."""
        self.forget_agents(node_id)
        self._nodes.pop(node_id, None)

    def close(self) -> None:
        """Watchers end."""
        self._events.close()

    def _replace_record(self, node: _Node, record: NodeRecord) -> None:
        before = {agent.agent_id: agent for agent in node.record.agents}
        after = {agent.agent_id: agent for agent in record.agents}
        removed = [agent for agent_id, agent in before.items() if after.get(agent_id) != agent]
        added = [agent for agent_id, agent in after.items() if before.get(agent_id) != agent]
        for agent in removed:
            self._directory.remove(node.record.node_id, agent)
        gone = [self._agent_event(node, a, RegistryEventKind.AGENT_REMOVED) for a in removed if a.agent_id not in after]
        node.record = record
        for agent in added:
            self._directory.add(node.record.node_id, agent)
        for event in gone:
            self._emit(event)
        for agent in added:
            self._emit(self._agent_event(node, agent, RegistryEventKind.AGENT_ADDED))
        self._changed.set()

    # -- views and events --------------------------------------------------------------------------------------------

    def _heard(self, node: _Node) -> int:
        if node.is_self:
            return self._wall_ms()
        return max(node.heard_ms, self._last_heard_ms(node.record.node_id) or 0)

    def _info(self, node: _Node) -> NodeInfo:
        record = node.record
        return NodeInfo(
            node_id=record.node_id,
            status=node.status,
            address=node.host,
            port=record.introduction_port,
            incarnation=record.incarnation,
            last_heartbeat=self._heard(node),
            agents=tuple(sorted(agent.agent_id for agent in record.agents)),
            fingerprint=node.fingerprint,
            is_self=node.is_self,
            is_client=record.client,
        )

    def _event(self, node: _Node, kind: RegistryEventKind, reason: str = "") -> RegistryEvent:
        return RegistryEvent(kind=kind, node=self._info(node), reason=reason)

    def _agent_event(self, node: _Node, record: AgentRecord, kind: RegistryEventKind) -> RegistryEvent:
        return RegistryEvent(kind=kind, node=self._info(node), agent=_agent(node, record, self._heard(node)))

    def _emit(self, event: RegistryEvent) -> None:
        self._changed.set()
        self._events.emit(event)


def _agent(node: _Node, record: AgentRecord, heard_ms: int) -> AgentNode:
    return AgentNode(
        node_id=node.record.node_id,
        agent_id=record.agent_id,
        address=node.host,
        port=node.record.data_port,
        capabilities=list(record.capabilities),
        status=node.status,
        last_heartbeat=heard_ms,
        metadata=dict(record.metadata),
    )


def _without_agents(record: NodeRecord) -> NodeRecord:
    return replace(record, agents=())
