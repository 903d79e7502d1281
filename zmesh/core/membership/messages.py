"""What nodes tell each other on the control plane, and what the membership machine asks its driver to do.

The wire form of each message is in docs/spec/02-control-plane.md; ``zmesh.wire.control`` encodes and decodes them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

__all__ = [
    "AgentRecord",
    "Contact",
    "Contacts",
    "ControlMessage",
    "Forget",
    "Goodbye",
    "Heartbeat",
    "Introduce",
    "MemberEvent",
    "MemberEventKind",
    "MembershipEffect",
    "NodeRecord",
    "Notify",
    "RecordAnswer",
    "RecordRequest",
    "Report",
    "SendControl",
]


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
    incarnation: int  # ms since the epoch at start; of two records the one with the greater (incarnation, version) wins
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


# -- messages between nodes ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I live; my record is at this version; the members I know hash to this."""

    incarnation: int
    record_version: int
    contacts_digest: int  # order-independent 64-bit digest over the (node_id, incarnation) of every live member
    answer: bool = False  # asks for a heartbeat in return at once


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """Send me your record: the version in your heartbeat is newer than mine."""


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """My record, whole."""

    record: NodeRecord


@dataclass(frozen=True, slots=True)
class Contacts:
    """The members I know that your digest says you may not."""

    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """I leave now; do not suspect me."""

    incarnation: int


ControlMessage = Heartbeat | RecordRequest | RecordAnswer | Contacts | Goodbye


# -- effects: what the driver must do, in this order -----------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class SendControl:
    """Send a message to a member over its control connection."""

    node_id: str
    message: ControlMessage


@dataclass(frozen=True, slots=True)
class Introduce:
    """Dial this contact and exchange certificates; on success the driver calls ``introduced``."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the process."""

    event: MemberEvent


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the operator of something that a person must put right. Said once for each cause."""

    kind: str  # a fixed word, the name of a counter
    source: str  # the node it is about
    reason: str  # one sentence that says what to do


@dataclass(frozen=True, slots=True)
class Forget:
    """The member has been gone for so long that nothing is kept of it: free what is held for it."""

    node_id: str


MembershipEffect = SendControl | Introduce | Notify | Report | Forget
