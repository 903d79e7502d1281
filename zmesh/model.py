"""The data types a user sees: agents, nodes, messages.

Units are in the names or in the field's comment; times of the wall clock are milliseconds since the epoch.
"""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Callable
from contextvars import ContextVar

import msgspec

__all__ = [
    "AgentMessage",
    "AgentNode",
    "Capability",
    "ConsistencyLevel",
    "DistributedState",
    "MessagePriority",
    "MessageType",
    "NodeInfo",
    "NodeStatus",
    "message_sources",
    "now_ms",
]

_MAX_U64 = (1 << 64) - 1


def now_ms() -> int:
    """The wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class NodeStatus(enum.Enum):
    """How a node, and so every agent on it, stands with the mesh. Only the ACTIVE get what is sent to a capability."""

    ACTIVE = "active"
    INACTIVE = "inactive"  # a node suspected: it has missed heartbeats, and may refute; or an agent that is not well
    DISCONNECTED = "disconnected"  # declared dead, or it said goodbye
    MAINTENANCE = "maintenance"  # alive, and asks for no new work


class MessageType(enum.IntEnum):
    """What a message is for. The numbers are on the wire."""

    STATE_SYNC = 0
    COMMAND = 1
    QUERY = 2
    RESPONSE = 3
    HEARTBEAT = 4
    BROADCAST = 5


class MessagePriority(enum.IntEnum):
    """Higher overtakes lower. The numbers are on the wire."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


class ConsistencyLevel(enum.Enum):
    """How strong a key of shared state is."""

    EVENTUAL = "eventual"
    CAUSAL = "causal"
    QUORUM = "quorum"
    STRONG = "strong"


class Capability(msgspec.Struct, frozen=True):
    """A destination by what an agent can do instead of by its id: ``Capability("summarize")``."""

    name: str


class AgentNode(msgspec.Struct, kw_only=True):
    """One agent as the registry knows it."""

    node_id: str
    agent_id: int
    address: str = ""  # host of the node, as this process reaches it; "" for an agent of this process
    port: int = 0
    capabilities: list[str] = msgspec.field(default_factory=list)
    status: NodeStatus = NodeStatus.ACTIVE
    last_heartbeat: int = 0  # of its node, see there; ms since the epoch, by this process's clock
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    healthy: bool = True  # whether its own health check passes, if it has one


class NodeInfo(msgspec.Struct, kw_only=True, frozen=True):
    """One node as the registry knows it.

    ``last_heartbeat`` is when this node last heard from it, whatever it was that came. In a mesh of more than 32 nodes
    each is watched by some of the others only: of a node that this one does not watch, it is when a neighbour last
    confirmed the view that has it as a member.
    """

    node_id: str
    status: NodeStatus
    address: str
    port: int
    incarnation: int  # ms since the epoch at the node's start; grows with each restart
    last_heartbeat: int  # ms since the epoch, by this process's clock
    agents: tuple[int, ...] = ()
    fingerprint: str = ""
    is_self: bool = False
    is_client: bool = False


def _random_id() -> str:
    return os.urandom(16).hex()


# What makes the time and the id of a message that is given none: a simulation sets its own, so that runs repeat.
message_sources: ContextVar[tuple[Callable[[], int], Callable[[], str]]] = ContextVar(
    "message_sources", default=(now_ms, _random_id)
)


def _timestamp() -> int:
    return message_sources.get()[0]()


def _new_message_id() -> str:
    return message_sources.get()[1]()


class AgentMessage(msgspec.Struct, gc=False):
    """A message between agents.

    ``to_agent`` is None for a broadcast. ``ttl`` is in milliseconds, 0 for no limit. ``timestamp`` is the sender's
    wall clock in milliseconds since the epoch.
    """

    from_agent: int
    to_agent: int | None = None
    payload: bytes = b""
    message_type: MessageType = MessageType.COMMAND
    timestamp: int = msgspec.field(default_factory=_timestamp)
    ttl: int = 0
    priority: MessagePriority = MessagePriority.NORMAL
    message_id: str = msgspec.field(default_factory=_new_message_id)

    @property
    def sender_node(self) -> str | None:
        """The authenticated ``node_id`` the message came from; None for a message made here."""
        return None

    @property
    def group(self) -> str | None:
        """The group the message was published to; None for any other kind of message."""
        return None


class DistributedState(msgspec.Struct, kw_only=True):
    """One value of shared state, with the version vector that orders it against concurrent writes."""

    state_id: str
    agent_id: int
    version: int = 0
    vector_clock: dict[str, int] = msgspec.field(default_factory=dict)
    data: bytes = b""
    replicas: list[str] = msgspec.field(default_factory=list)
    consistency_level: ConsistencyLevel = ConsistencyLevel.EVENTUAL


def is_agent_id(value: object) -> bool:
    """Whether ``value`` is an unsigned 64-bit integer, as agent ids are."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_U64
