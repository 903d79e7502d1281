"""Control messages as bytes: docs/spec/02-control-plane.md, section 2, which has the golden vectors.

A frame is one version byte, then one MessagePack array: the kind, then the fields in order. Fields that a later version
appends are skipped; anything else that differs from the specification is a ``ProtocolViolation``.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from zmesh.core.introduction.messages import Enrol, Enrolled, Hello, IntroductionMessage, Rejection, Welcome
from zmesh.core.membership.member import AgentRecord, Contact, NodeRecord
from zmesh.core.membership.messages import Contacts, ControlMessage, Goodbye, Heartbeat, RecordAnswer, RecordRequest
from zmesh.errors import ConfigurationError, MessageTooLarge, ProtocolViolation

__all__ = [
    "CONTROL_VERSION",
    "MAX_CONTROL_BYTES",
    "MAX_INTRODUCTION_BYTES",
    "check_agent",
    "decode_control",
    "decode_introduction",
    "encode_control",
    "encode_introduction",
]

CONTROL_VERSION: Final = 1
KIB: Final = 1024
MAX_CONTROL_BYTES: Final = 8 * KIB * KIB  # the record of 10,000 agents with 800 bytes each; members only
MAX_INTRODUCTION_BYTES: Final = 16 * KIB  # strangers: a certificate chain of 4 KiB, 16 hosts, and room to grow
MAX_AGENTS: Final = 10_000
MAX_CONTACTS: Final = 1024
MAX_HOSTS: Final = 16

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}(/[A-Za-z0-9][A-Za-z0-9._-]{0,30})?\Z")]
_Word = Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")]
_Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:%_-]{1,255}\Z")]  # goes into an endpoint: no ';', '/' or '*'
_Hosts = Annotated[tuple[_Host, ...], Meta(max_length=MAX_HOSTS)]
_Port = Annotated[int, Meta(ge=1, le=65535)]
_Id = Annotated[str, Meta(max_length=64)]
_Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Unsigned = Annotated[int, Meta(ge=0)]  # MessagePack ends at 64 bits by itself
_Chain = Annotated[bytes, Meta(max_length=4096)]
_Text = Annotated[str, Meta(max_length=1024)]
_Label = Annotated[str, Meta(max_length=256)]
_Value = Annotated[str, Meta(max_length=64 * KIB)]


class _Agent(Struct, array_like=True, frozen=True):
    agent_id: _Unsigned
    capabilities: Annotated[tuple[_Label, ...], Meta(max_length=1024)] = ()
    metadata: Annotated[dict[_Label, _Value], Meta(max_length=1024)] = {}
    healthy: bool = True


class _Record(Struct, array_like=True, frozen=True):
    node_id: _Name
    incarnation: _Count
    version: _Count
    certificate: _Chain
    machine: _Id
    hosts: _Hosts
    introduction_port: _Port
    control_port: _Port
    data_port: _Port
    publish_port: _Port
    agents: Annotated[tuple[_Agent, ...], Meta(max_length=MAX_AGENTS)] = ()
    maintenance: bool = False
    client: bool = False
    software: _Label = ""
    publishes: bool = False


class _Contact(Struct, array_like=True, frozen=True):
    node_id: _Name
    incarnation: _Count
    hosts: _Hosts
    introduction_port: _Port
    machine: _Id


class _Heartbeat(Struct, array_like=True, frozen=True, tag=1):
    incarnation: _Count
    record_version: _Count
    contacts_digest: _Unsigned
    answer: bool = False


class _RecordRequest(Struct, array_like=True, frozen=True, tag=2):
    pass


class _RecordAnswer(Struct, array_like=True, frozen=True, tag=3):
    record: _Record


class _Contacts(Struct, array_like=True, frozen=True, tag=4):
    contacts: Annotated[tuple[_Contact, ...], Meta(max_length=MAX_CONTACTS)]


class _Goodbye(Struct, array_like=True, frozen=True, tag=5):
    incarnation: _Count


class _Hello(Struct, array_like=True, frozen=True, tag=16):
    versions: Annotated[tuple[_Count, ...], Meta(max_length=16)]
    mesh_id: _Id
    certificate: _Chain
    contact: _Contact


class _Welcome(Struct, array_like=True, frozen=True, tag=17):
    version: _Count
    certificate: _Chain
    contact: _Contact


class _Rejection(Struct, array_like=True, frozen=True, tag=18):
    code: _Word
    detail: _Text


class _Enrol(Struct, array_like=True, frozen=True, tag=19):
    invitation_id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    name: _Name
    curve_public: Annotated[bytes, Meta(min_length=40, max_length=40)]
    signing_public: Annotated[bytes, Meta(min_length=32, max_length=32)]
    proof: Annotated[bytes, Meta(min_length=32, max_length=32)]


class _Enrolled(Struct, array_like=True, frozen=True, tag=20):
    sealed: Annotated[bytes, Meta(max_length=8 * KIB)]


_PAIRS: dict[type[Struct], type[Any]] = {
    _Agent: AgentRecord,
    _Record: NodeRecord,
    _Contact: Contact,
    _Heartbeat: Heartbeat,
    _RecordRequest: RecordRequest,
    _RecordAnswer: RecordAnswer,
    _Contacts: Contacts,
    _Goodbye: Goodbye,
    _Hello: Hello,
    _Welcome: Welcome,
    _Rejection: Rejection,
    _Enrol: Enrol,
    _Enrolled: Enrolled,
}
_WIRE_OF = {core: wire for wire, core in _PAIRS.items()}

_VERSION_BYTE = bytes([CONTROL_VERSION])
_control_decoder = msgspec.msgpack.Decoder(_Heartbeat | _RecordRequest | _RecordAnswer | _Contacts | _Goodbye)
_agent_decoder = msgspec.msgpack.Decoder(_Agent)
_introduction_decoder = msgspec.msgpack.Decoder(_Hello | _Welcome | _Rejection | _Enrol | _Enrolled)


def encode_control(message: ControlMessage) -> bytes:
    """A control message as a frame. Raises ``MessageTooLarge`` above ``MAX_CONTROL_BYTES``."""
    return _encode(message, MAX_CONTROL_BYTES)


def decode_control(data: bytes) -> ControlMessage:
    """The control message in a frame. Raises ``ProtocolViolation``, and nothing else, for anything that is none."""
    message: ControlMessage = _decode(_control_decoder, data, MAX_CONTROL_BYTES)
    if isinstance(message, RecordAnswer):
        _check_agents(message.record)
    return message


def encode_introduction(message: IntroductionMessage) -> bytes:
    """An introduction message as a frame. Raises ``MessageTooLarge`` above ``MAX_INTRODUCTION_BYTES``."""
    return _encode(message, MAX_INTRODUCTION_BYTES)


def decode_introduction(data: bytes) -> IntroductionMessage:
    """The introduction message in a frame. Raises ``ProtocolViolation``, and nothing else."""
    message: IntroductionMessage = _decode(_introduction_decoder, data, MAX_INTRODUCTION_BYTES)
    return message


def check_agent(agent: AgentRecord) -> None:
    """Check that peers will accept this agent in a record. Raises ``ConfigurationError``."""
    try:
        _agent_decoder.decode(msgspec.msgpack.encode(_to_wire(agent)))
    except (msgspec.MsgspecError, OverflowError, TypeError, UnicodeError) as error:
        raise ConfigurationError(f"agent {agent.agent_id} cannot be described to peers: {error}") from None


def _encode(message: object, limit: int) -> bytes:
    data = _VERSION_BYTE + msgspec.msgpack.encode(_to_wire(message))
    if len(data) > limit:
        raise MessageTooLarge(f"a {type(message).__name__} of {len(data)} bytes exceeds the limit of {limit} bytes")
    return data


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes, limit: int) -> Any:
    if len(data) > limit:
        raise ProtocolViolation("oversize_frame", f"{len(data)} bytes, {limit} at most are allowed")
    if data[:1] != _VERSION_BYTE:
        raise ProtocolViolation("wrong_version", f"the frame starts with {data[:1].hex() or 'nothing'}")
    try:
        return _to_core(decoder.decode(memoryview(data)[1:]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation("malformed_frame", str(error)) from None


def _check_agents(record: NodeRecord) -> None:
    ids = {agent.agent_id for agent in record.agents}
    if len(ids) != len(record.agents):
        raise ProtocolViolation("malformed_frame", "an agent id occurs twice in one record")


def _to_core(value: Any) -> Any:
    core = _PAIRS.get(type(value))
    if core is not None:
        return core(*map(_to_core, msgspec.structs.astuple(value)))
    return tuple(map(_to_core, value)) if isinstance(value, tuple) else value


def _to_wire(value: Any) -> Any:
    wire = _WIRE_OF.get(type(value))
    if wire is not None:
        return wire(*(_to_wire(getattr(value, name)) for name in wire.__struct_fields__))
    return tuple(map(_to_wire, value)) if isinstance(value, tuple) else value
