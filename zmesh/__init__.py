"""zmesh: brokerless messaging for networks of agents, on ZeroMQ.

import zmesh

async def main() -> None:
    async with zmesh.AgentNetwork() as network:
        agent = await network.register_agent(7, ["shout"], handler=lambda message: message.payload.upper())
        ...

zmesh.run(main())
"""

from zmesh.agent import Agent
from zmesh.config import NetworkConfig, Timings
from zmesh.errors import (
    AddressInUse,
    AgentExists,
    ConfigurationError,
    HandlerFailed,
    InternalError,
    InvitationError,
    KeystoreError,
    MessageTooLarge,
    NetworkError,
    NotJoined,
    PeerError,
    PeerLost,
    ProtocolViolation,
    Refused,
    RequestTimeout,
    UnknownAgent,
    UsageError,
)
from zmesh.health import HealthCheck
from zmesh.listing import RegistryEvent, RegistryEventKind, RegistryView
from zmesh.loop import event_loop_name, run
from zmesh.maintenance import Unfinished
from zmesh.model import (
    AgentMessage,
    AgentNode,
    Capability,
    ConsistencyLevel,
    DistributedState,
    MessagePriority,
    MessageType,
    NodeInfo,
    NodeStatus,
)
from zmesh.network import AgentNetwork, Incident
from zmesh.node import NetworkInfo
from zmesh.receipt import Receipt
from zmesh.registry import Registry
from zmesh.runtime.counters import Statistics
from zmesh.version import __version__

__all__ = [
    "AddressInUse",
    "Agent",
    "AgentExists",
    "AgentMessage",
    "AgentNetwork",
    "AgentNode",
    "Capability",
    "ConfigurationError",
    "ConsistencyLevel",
    "DistributedState",
    "HandlerFailed",
    "HealthCheck",
    "Incident",
    "InternalError",
    "InvitationError",
    "KeystoreError",
    "MessagePriority",
    "MessageTooLarge",
    "MessageType",
    "NetworkConfig",
    "NetworkError",
    "NetworkInfo",
    "NodeInfo",
    "NodeStatus",
    "NotJoined",
    "PeerError",
    "PeerLost",
    "ProtocolViolation",
    "Receipt",
    "Refused",
    "Registry",
    "RegistryEvent",
    "RegistryEventKind",
    "RegistryView",
    "RequestTimeout",
    "Statistics",
    "Timings",
    "Unfinished",
    "UnknownAgent",
    "UsageError",
    "__version__",
    "event_loop_name",
    "run",
]
