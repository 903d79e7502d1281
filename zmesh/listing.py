"""What the registry lists, and the events that tell of every change of it."""

from __future__ import annotations

import enum

import msgspec

from zmesh.core.membership.member import AgentRecord, NodeRecord
from zmesh.model import AgentNode, NodeInfo, NodeStatus

__all__ = ["ListedNode", "RegistryEvent", "RegistryEventKind", "RegistryView"]


class RegistryEventKind(enum.Enum):
    """What happened."""

    NODE_JOINED = "node_joined"
    NODE_CHANGED = "node_changed"  # its addresses, whether it is in maintenance, or what else it says of itself
    NODE_RESTARTED = "node_restarted"
    NODE_SUSPECTED = "node_suspected"
    NODE_RECOVERED = "node_recovered"
    NODE_DIED = "node_died"
    NODE_LEFT = "node_left"
    NODE_FORGOTTEN = "node_forgotten"  # gone for so long that it is not listed any more
    AGENT_ADDED = "agent_added"
    AGENT_CHANGED = "agent_changed"  # whether it is well, what it can do, its metadata, or its port
    AGENT_REMOVED = "agent_removed"


class RegistryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One change. ``node`` is as it was right after it.

    ``agent`` is set for the events of agents; ``reason`` says why a node was suspected or died.
    """

    kind: RegistryEventKind
    node: NodeInfo
    agent: AgentNode | None = None
    reason: str = ""


class ListedNode:
    """A node as known here. ``routable`` is false once messages for it can no longer be held."""

    __slots__ = ("fingerprint", "heard_ms", "host", "is_self", "liveness", "record", "routable")

    def __init__(
        self, record: NodeRecord, host: str, fingerprint: str, heard_ms: int, *, is_self: bool = False
    ) -> None:
        self.record = record
        self.host = host
        self.fingerprint = fingerprint
        self.is_self = is_self
        self.liveness = NodeStatus.ACTIVE  # ACTIVE, INACTIVE or DISCONNECTED: what the membership has seen
        self.routable = True
        self.heard_ms = heard_ms

    @property
    def status(self) -> NodeStatus:
        """What the membership has seen of it, and of a living node what it asks for."""
        in_maintenance = self.record.maintenance and self.liveness is NodeStatus.ACTIVE
        return NodeStatus.MAINTENANCE if in_maintenance else self.liveness

    def info(self, heard_ms: int) -> NodeInfo:
        """The node for users."""
        record = self.record
        return NodeInfo(
            node_id=record.node_id,
            status=self.status,
            address=self.host,
            port=record.introduction_port,
            incarnation=record.incarnation,
            last_heartbeat=heard_ms,
            agents=tuple(sorted(agent.agent_id for agent in record.agents)),
            fingerprint=self.fingerprint,
            is_self=self.is_self,
            is_client=record.client,
        )

    def agent(self, record: AgentRecord, heard_ms: int) -> AgentNode:
        """One of its agents for users."""
        return AgentNode(
            node_id=self.record.node_id,
            agent_id=record.agent_id,
            address=self.host,
            port=self.record.data_port,
            capabilities=list(record.capabilities),
            status=_agent_status(self.status, record.healthy),
            last_heartbeat=heard_ms,
            metadata=dict(record.metadata),
            healthy=record.healthy,
        )


class RegistryView:
    """The events of ``Registry.watch`` folded: what ``nodes()`` and ``agents()`` of the registry gave after the last.

    It is where a program keeps what it has been told, next to whatever it does with each event. Each ``last_heartbeat``
    is of the last event of its node.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._agents: dict[tuple[int, str], AgentNode] = {}

    def apply(self, event: RegistryEvent) -> None:
        """Take the next event; the first is the first that ``watch`` gave."""
        node_id, agent = event.node.node_id, event.agent
        self._nodes[node_id] = event.node
        if event.kind is RegistryEventKind.NODE_FORGOTTEN:
            del self._nodes[node_id]
        elif agent is not None and event.kind is RegistryEventKind.AGENT_REMOVED:
            del self._agents[agent.agent_id, node_id]
        elif agent is not None:
            self._agents[agent.agent_id, node_id] = agent

    def nodes(self) -> list[NodeInfo]:
        """All nodes, by name."""
        return [self._nodes[node_id] for node_id in sorted(self._nodes)]

    def agents(self) -> list[AgentNode]:
        """All agents, by agent id."""
        return [_on(self._nodes[key[1]], self._agents[key]) for key in sorted(self._agents)]


def _on(node: NodeInfo, agent: AgentNode) -> AgentNode:
    """An agent on a node that may have changed since: that is told once, and not for each of its agents."""
    return msgspec.structs.replace(
        agent,
        address=node.address,
        status=_agent_status(node.status, agent.healthy),
        last_heartbeat=node.last_heartbeat,
    )


def _agent_status(node: NodeStatus, healthy: bool) -> NodeStatus:
    """An agent stands as its node does, unless that is up and the agent is not well."""
    is_up = node in (NodeStatus.ACTIVE, NodeStatus.MAINTENANCE)
    return NodeStatus.INACTIVE if is_up and not healthy else node
