"""What a node has to say, in both of its forms: a line for a person, and fields for a JSON object.

Whatever comes from the network is printed with its control characters escaped: a payload must not be able to move
the cursor of the terminal that shows it, or to forge a line.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from zmesh import AgentMessage, AgentNode, Incident, MessageType, NodeInfo, RegistryEvent, RegistryEventKind

__all__ = [
    "Report",
    "agent_row",
    "clean",
    "incident_report",
    "message_report",
    "node_row",
    "payload_fields",
    "payload_text",
    "registry_report",
    "table",
]

SHOWN_CHARACTERS = 400  # of a payload on one line: a few terminal rows


@dataclass(frozen=True, slots=True)
class Report:
    """One event: its fixed name, the lines a person reads (none: only ``--json`` shows it), the JSON fields.

    ``timed`` puts the time of day before the lines: for what happens by itself, not for answers to what was just typed.
    """

    event: str
    lines: Sequence[str] = ()
    fields: Mapping[str, object] = field(default_factory=dict)
    timed: bool = False


def clean(text: str) -> str:
    """The text with everything that is not printable written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def payload_text(payload: bytes) -> str:
    """A payload on one line, cut to a few terminal rows."""
    text = clean(payload[: 4 * SHOWN_CHARACTERS].decode(errors="backslashreplace"))
    if len(payload) <= 4 * SHOWN_CHARACTERS and len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}... ({len(payload):,} bytes)"


def payload_fields(payload: bytes) -> dict[str, object]:
    """A payload as JSON can hold it: text where it is UTF-8, else base64."""
    try:
        return {"payload": payload.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(payload).decode(), "encoding": "base64"}


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def node_row(node: NodeInfo) -> list[str]:
    """One row about a node: name, how it stands, where it is, which agents it has."""
    place = "this node" if node.is_self else _address(node)
    agents = ", ".join(map(str, node.agents)) or "no agents"
    return [node.node_id, node.status.value, place, agents]


def agent_row(agent: AgentNode) -> list[str]:
    """One row about an agent: id, capabilities, node, how that stands."""
    return [str(agent.agent_id), ", ".join(agent.capabilities) or "-", agent.node_id, agent.status.value]


def registry_report(event: RegistryEvent) -> Report | None:
    """A change of the mesh; None for this node's own, which its banner tells."""
    if event.node.is_self:
        return None
    fields: dict[str, object] = {"node": msgspec.to_builtins(event.node)}
    if event.agent is not None:
        fields["agent"] = msgspec.to_builtins(event.agent)
    if event.reason:
        fields["reason"] = event.reason
    return Report(event.kind.name.lower(), _registry_lines(event), fields, timed=True)


def message_report(message: AgentMessage) -> Report:
    """A message that came for the node's own agent."""
    sender = f"agent {message.from_agent} on {message.sender_node or 'this node'}"
    fields = {
        "from_agent": message.from_agent,
        "from_node": message.sender_node,
        "to_agent": message.to_agent,
        "group": message.group,
        "message_type": message.message_type.name.lower(),
        "message_id": message.message_id,
        **payload_fields(message.payload),
    }
    return Report("message", [f"{_kind(message)} from {sender}: {payload_text(message.payload)}"], fields, timed=True)


def incident_report(incident: Incident) -> Report:
    """Something that was refused or failed, and disturbed nothing else."""
    times = f" ({incident.count} times)" if incident.count > 1 else ""
    fields = {"kind": incident.kind, "reason": incident.reason, "source": incident.source, "count": incident.count}
    text = f"! {incident.kind.replace('_', ' ')} from {incident.source or 'this node'}: {incident.reason}{times}"
    return Report("incident", [text], fields, timed=True)


def _registry_lines(event: RegistryEvent) -> list[str]:
    because = f": {event.reason}" if event.reason else ""
    if event.agent is not None:
        sign, verb = _agent_phrase(event.kind, event.agent)
        able = f" ({', '.join(event.agent.capabilities)})" if event.agent.capabilities else ""
        return [f"{sign} agent {event.agent.agent_id}{able} on {event.node.node_id} {verb}{because}"]
    if event.kind not in _NODE_PHRASES:
        return []
    sign, phrase = _NODE_PHRASES[event.kind]
    what = "client" if event.node.is_client else "node"
    return [f"{sign} {what} {event.node.node_id} {phrase.format(address=_address(event.node))}{because}"]


def _agent_phrase(kind: RegistryEventKind, agent: AgentNode) -> tuple[str, str]:
    if kind is RegistryEventKind.AGENT_REMOVED:
        return "-", "is gone"
    if kind is RegistryEventKind.AGENT_ADDED:
        return ("+", "is there") if agent.healthy else ("?", "is there, and not well")
    return ("+", "is well") if agent.healthy else ("?", "is not well")


# A changed record is in --json alone: its agents, the part that people look for, have lines of their own.
_NODE_PHRASES = {
    RegistryEventKind.NODE_JOINED: ("+", "joined, at {address}"),
    RegistryEventKind.NODE_SUSPECTED: ("?", "is silent"),
    RegistryEventKind.NODE_RECOVERED: ("+", "is back"),
    RegistryEventKind.NODE_DIED: ("-", "is dead"),
    RegistryEventKind.NODE_LEFT: ("-", "left"),
    RegistryEventKind.NODE_RESTARTED: ("+", "restarted, at {address}"),
}


def _kind(message: AgentMessage) -> str:
    if message.group is not None:
        return f"#{message.group}"
    if message.to_agent is None:
        return "broadcast"
    return "request" if message.message_type is MessageType.QUERY else "message"


def _address(node: NodeInfo) -> str:
    if not node.address:
        return "an unknown address"
    return f"tcp://[{node.address}]:{node.port}" if ":" in node.address else f"tcp://{node.address}:{node.port}"
