"""Messages of the overlay as bytes: docs/spec/06-membership.md, section 2, which has the golden vectors.

A frame is one version byte, then one MessagePack array: the kind, then the fields in order. Fields that a later version
appends are skipped; anything else that differs from the specification is a ``ProtocolViolation``.

A statement of life comes by many ways, and views are made of a thousand of them: those decoded or encoded last are
remembered by their bytes, for all nodes of the process. That also makes equal statements one object.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from zmesh.core.membership.member import Contact
from zmesh.core.membership.messages import (
    Answer,
    Ask,
    Body,
    Fetch,
    Heartbeat,
    Hello,
    MembershipMessage,
    Notice,
    Petition,
    Pull,
    Records,
    Refusal,
    Vouch,
)
from zmesh.core.membership.records import MAX_RECORD_BYTES
from zmesh.core.membership.statements import Accusation, Alive, Charge, Left, Removal
from zmesh.errors import MessageTooLarge, ProtocolViolation

__all__ = ["MAX_MEMBERSHIP_BYTES", "CONTROL_VERSION", "decode_membership", "encode_membership"]

CONTROL_VERSION: Final = 2
MAX_MEMBERSHIP_BYTES: Final = 32 * 1024 * 1024  # a view of 16,384 members with certificates of 1 KiB each; members only
MAX_STATEMENTS: Final = 16_384
MAX_FETCHED: Final = 64
MAX_REMEMBERED: Final = 8192  # statements of life, of some 500 bytes
MAX_ACCUSATIONS: Final = 64  # a node has at most ``near_size`` observers

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}(/[A-Za-z0-9][A-Za-z0-9._-]{0,30})?\Z")]
_Word = Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")]
_Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:%_-]{1,255}\Z")]
_Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Number = Annotated[int, Meta(ge=-1, le=(1 << 63) - 1)]
_Digest = Annotated[int, Meta(ge=0)]  # MessagePack ends at 64 bits by itself
_Signature = Annotated[bytes, Meta(max_length=64)]
_RecordHash = Annotated[bytes, Meta(max_length=32)]
_Record = Annotated[bytes, Meta(max_length=MAX_RECORD_BYTES)]
_Charge = Annotated[int, Meta(ge=0, le=2)]


class _Contact(Struct, array_like=True, frozen=True):
    node_id: _Name
    incarnation: _Count
    hosts: Annotated[tuple[_Host, ...], Meta(max_length=16)]
    introduction_port: Annotated[int, Meta(ge=1, le=65535)]
    machine: Annotated[str, Meta(max_length=64)]


class _Alive(Struct, array_like=True, frozen=True, tag=1):
    contact: _Contact
    life: _Count
    version: _Count
    record_hash: _RecordHash
    certificate: Annotated[bytes, Meta(max_length=4096)]
    signature: _Signature


class _Left(Struct, array_like=True, frozen=True, tag=2):
    node_id: _Name
    incarnation: _Count
    signature: _Signature


class _Accusation(Struct, array_like=True, frozen=True, tag=3):
    accuser: _Name
    node_id: _Name
    incarnation: _Count
    life: _Count
    charge: _Charge
    signature: _Signature


class _Removal(Struct, array_like=True, frozen=True, tag=4):
    node_id: _Name
    incarnation: _Count
    life: _Count
    accusations: Annotated[tuple[_Accusation, ...], Meta(max_length=MAX_ACCUSATIONS)]


_Statements = Annotated[tuple[_Alive | _Left | _Accusation, ...], Meta(max_length=MAX_STATEMENTS)]


class _Heartbeat(Struct, array_like=True, frozen=True, tag=32):
    incarnation: _Count
    number: _Number
    digest: _Digest
    wants_answer: bool = False


class _Answer(Struct, array_like=True, frozen=True, tag=33):
    incarnation: _Count
    digest: _Digest


class _Hello(Struct, array_like=True, frozen=True, tag=34):
    alive: msgspec.Raw  # an _Alive
    digest: _Digest
    size: _Count


class _Petition(Struct, array_like=True, frozen=True, tag=35):
    turn: Annotated[int, Meta(ge=0, le=8)]
    statements: _Statements


class _Ask(Struct, array_like=True, frozen=True, tag=36):
    node_id: _Name
    incarnation: _Count
    life: _Count
    charge: _Charge


class _Vouch(Struct, array_like=True, frozen=True, tag=37):
    node_id: _Name
    incarnation: _Count
    life: _Count
    charge: _Charge


class _Notice(Struct, array_like=True, frozen=True, tag=38):
    digest: _Digest
    size: _Count


class _Pull(Struct, array_like=True, frozen=True, tag=39):
    digest: _Digest
    alive: _Alive | None = None


class _Body(Struct, array_like=True, frozen=True, tag=40):
    base: _Digest
    digest: _Digest
    alive: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MAX_STATEMENTS)] = ()  # each an _Alive
    gone: Annotated[tuple[_Left | _Removal, ...], Meta(max_length=MAX_STATEMENTS)] = ()


class _Refusal(Struct, array_like=True, frozen=True, tag=41):
    code: _Word
    incarnation: _Count


class _Fetch(Struct, array_like=True, frozen=True, tag=42):
    wanted: Annotated[tuple[tuple[_Name, _RecordHash], ...], Meta(max_length=MAX_FETCHED)]


class _Records(Struct, array_like=True, frozen=True, tag=43):
    records: Annotated[tuple[tuple[_Name, _Record], ...], Meta(max_length=MAX_FETCHED)]


_PAIRS: dict[type[Struct], type[Any]] = {
    _Contact: Contact,
    _Alive: Alive,
    _Left: Left,
    _Accusation: Accusation,
    _Removal: Removal,
    _Heartbeat: Heartbeat,
    _Answer: Answer,
    _Hello: Hello,
    _Petition: Petition,
    _Ask: Ask,
    _Vouch: Vouch,
    _Notice: Notice,
    _Pull: Pull,
    _Body: Body,
    _Refusal: Refusal,
    _Fetch: Fetch,
    _Records: Records,
}
_FLAT: Final = frozenset((Heartbeat, Answer, Notice, Refusal, Left, Fetch, Records, Contact))  # no others inside
_WIRE_OF = {core: wire for wire, core in _PAIRS.items()}
_VERSION_BYTE = bytes([CONTROL_VERSION])
_decoder = msgspec.msgpack.Decoder(
    _Heartbeat | _Answer | _Hello | _Petition | _Ask | _Vouch | _Notice | _Pull | _Body | _Refusal | _Fetch | _Records
)
_alive_decoder = msgspec.msgpack.Decoder(_Alive)


def encode_membership(message: MembershipMessage) -> bytes:
    """A message as a frame. Raises ``MessageTooLarge`` above ``MAX_MEMBERSHIP_BYTES``."""
    data = _VERSION_BYTE + msgspec.msgpack.encode(_to_wire(message))
    if len(data) > MAX_MEMBERSHIP_BYTES:
        raise MessageTooLarge(f"a {type(message).__name__} of {len(data)} bytes exceeds {MAX_MEMBERSHIP_BYTES} bytes")
    return data


def decode_membership(data: bytes) -> MembershipMessage:
    """The message in a frame. Raises ``ProtocolViolation``, and nothing else, for anything that is none."""
    if len(data) > MAX_MEMBERSHIP_BYTES:
        raise ProtocolViolation("oversize_frame", f"{len(data)} bytes, {MAX_MEMBERSHIP_BYTES} at most are allowed")
    if data[:1] != _VERSION_BYTE:
        raise ProtocolViolation("wrong_version", f"the frame starts with {data[:1].hex() or 'nothing'}")
    try:
        message: MembershipMessage = _to_core(_decoder.decode(memoryview(data)[1:]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolViolation("malformed_frame", str(error)) from None
    return message


@lru_cache(maxsize=MAX_REMEMBERED)
def _decode_alive(data: bytes) -> Alive:
    contact, *rest = msgspec.structs.astuple(_alive_decoder.decode(data))
    return Alive(_to_core(contact), *rest)


@lru_cache(maxsize=MAX_REMEMBERED)
def _encode_alive(alive: Alive) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(_struct_of(_Alive, alive)))


def _to_core(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return _decode_alive(bytes(value))
    core = _PAIRS.get(type(value))
    if core is None:
        return tuple(map(_to_core, value)) if isinstance(value, tuple) else value
    flat = msgspec.structs.astuple(value)
    if core in _FLAT:
        return core(*flat)
    fields = [_to_core(field) for field in flat]
    if core in (Accusation, Ask, Vouch):
        at = 4 if core is Accusation else 3
        fields[at] = Charge(fields[at])
    return core(*fields)


def _to_wire(value: Any) -> Any:
    if isinstance(value, Alive):
        return _encode_alive(value)
    wire = _WIRE_OF.get(type(value))
    if wire is not None:
        return _struct_of(wire, value)
    if isinstance(value, Charge):
        return int(value)
    return tuple(map(_to_wire, value)) if isinstance(value, tuple) else value


def _struct_of(wire: type[Struct], value: Any) -> Struct:
    fields = [getattr(value, name) for name in wire.__struct_fields__]
    return wire(*(fields if type(value) in _FLAT else map(_to_wire, fields)))
