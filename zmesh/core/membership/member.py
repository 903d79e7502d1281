"""What a node says of itself and of its agents, and what is told when that, or its being there, changes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

__all__ = ["AgentRecord", "Contact", "MemberEvent", "MemberEventKind", "NodeRecord", "contact_of"]


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """One agent as its node describes it."""

    agent_id: int
    capabilities: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    healthy: bool = True  # its health check passes, or it has none


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """All that a node says of itself. Only the node itself ever changes it, raising ``version``."""

    node_id: str
    incarnation: int  # ms since the epoch at start, and above all earlier ones of this node
    version: int
    certificate: bytes  # the encoded chain, leaf first (docs/spec/04-trust.md)
    machine: str  # equal for processes that can reach each other on the loopback interface
    hosts: tuple[str, ...]  # addresses it can be dialled at, best first, without brackets
    introduction_port: int
    control_port: int
    data_port: int
    publish_port: int
    agents: tuple[AgentRecord, ...] = ()
    maintenance: bool = False
    client: bool = False
    software: str = ""
    publishes: bool = False  # it has published to a group or broadcast, or is about to: it is to be subscribed to


@dataclass(frozen=True, slots=True)
class Contact:
    """Enough to dial a node: what peers tell each other of third nodes."""

    node_id: str
    incarnation: int
    hosts: tuple[str, ...]
    introduction_port: int
    machine: str


class MemberEventKind(enum.Enum):
    """What happened to a member."""

    JOINED = "joined"  # first seen, or seen again after having died or left
    CHANGED = "changed"  # same incarnation, newer record
    RESTARTED = "restarted"  # same node_id, greater incarnation: every session with the old one is void
    SUSPECTED = "suspected"
    RECOVERED = "recovered"  # suspected or dead, and heard of again in the same incarnation
    DIED = "died"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class MemberEvent:
    """One change of the membership, as told to the rest of the process."""

    kind: MemberEventKind
    record: NodeRecord
    reason: str = ""


def contact_of(record: NodeRecord) -> Contact:
    """The part of a record that is passed on to third nodes."""
    return Contact(record.node_id, record.incarnation, record.hosts, record.introduction_port, record.machine)
