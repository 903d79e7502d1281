"""The records of nodes as bytes: docs/spec/02-control-plane.md, section 4, which has the golden vector."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from zmesh.core.membership.member import AgentRecord, NodeRecord
from zmesh.core.membership.records import MAX_RECORD_BYTES
from zmesh.errors import ConfigurationError, ProtocolViolation
from zmesh.wire.fields import KIB, Chain, Count, FrameCodec, Hosts, MachineId, Name, Port, Unsigned

__all__ = ["check_agent", "decode_record", "encode_record"]

RECORD_VERSION: Final = 1
MAX_AGENTS: Final = 10_000

_Label = Annotated[str, Meta(max_length=256)]
_Value = Annotated[str, Meta(max_length=64 * KIB)]


class _Agent(Struct, array_like=True, frozen=True):
    agent_id: Unsigned
    capabilities: Annotated[tuple[_Label, ...], Meta(max_length=1024)] = ()
    metadata: Annotated[dict[_Label, _Value], Meta(max_length=1024)] = {}
    healthy: bool = True


class _Record(Struct, array_like=True, frozen=True):
    node_id: Name
    incarnation: Count
    version: Count
    certificate: Chain
    machine: MachineId
    hosts: Hosts
    introduction_port: Port
    control_port: Port
    data_port: Port
    publish_port: Port
    agents: Annotated[tuple[_Agent, ...], Meta(max_length=MAX_AGENTS)] = ()
    maintenance: bool = False
    client: bool = False
    software: _Label = ""
    publishes: bool = False


_codec = FrameCodec(RECORD_VERSION, MAX_RECORD_BYTES, _Record, {_Agent: AgentRecord, _Record: NodeRecord})
_agent_decoder = msgspec.msgpack.Decoder(_Agent)


def encode_record(record: NodeRecord) -> bytes:
    """A record as bytes. Raises ``MessageTooLarge`` above 8 MiB."""
    return _codec.encode(record)


def decode_record(data: bytes) -> NodeRecord:
    """The record in these bytes. Raises ``ProtocolViolation``, and nothing else, for anything that is none."""
    record: NodeRecord = _codec.decode(data)
    if len({agent.agent_id for agent in record.agents}) != len(record.agents):
        raise ProtocolViolation("malformed_frame", "an agent id occurs twice in one record")
    return record


def check_agent(agent: AgentRecord) -> None:
    """Check that peers will accept this agent in a record. Raises ``ConfigurationError``."""
    try:
        _agent_decoder.decode(msgspec.msgpack.encode(_codec.to_wire(agent)))
    except (msgspec.MsgspecError, OverflowError, TypeError, UnicodeError) as error:
        raise ConfigurationError(f"agent {agent.agent_id} cannot be described to peers: {error}") from None
