"""Messages between members as bytes: docs/spec/06-membership.md, section 2, which has the golden vectors.

A statement of life comes by many ways, and views are made of a thousand of them: those decoded or encoded last are
remembered by their bytes, for all nodes of the process. That also makes equal statements one object.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

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
from zmesh.wire.fields import Chain, ContactFields, Count, FrameCodec, Name, Unsigned, Word

__all__ = ["CONTROL_VERSION", "MAX_MEMBERSHIP_BYTES", "decode_membership", "encode_membership"]

CONTROL_VERSION: Final = 2
MAX_MEMBERSHIP_BYTES: Final = 32 * 1024 * 1024  # a view of 16,384 members with certificates of 1 KiB each; members only
MAX_STATEMENTS: Final = 16_384
MAX_FETCHED: Final = 64
MAX_REMEMBERED: Final = 8192  # statements of life, of some 500 bytes
MAX_REMEMBERED_BYTES: Final = 2048  # of each: a member may make one as long as a frame, by fields of no meaning
MAX_ACCUSATIONS: Final = 64  # a node has at most ``near_size`` observers

_Number = Annotated[int, Meta(ge=-1, le=(1 << 63) - 1)]
_Signature = Annotated[bytes, Meta(max_length=64)]
_RecordHash = Annotated[bytes, Meta(max_length=32)]
_Record = Annotated[bytes, Meta(max_length=MAX_RECORD_BYTES)]


class _Alive(Struct, array_like=True, frozen=True, tag=1):
    contact: ContactFields
    life: Count
    version: Count
    record_hash: _RecordHash
    certificate: Chain
    signature: _Signature


class _Left(Struct, array_like=True, frozen=True, tag=2):
    node_id: Name
    incarnation: Count
    signature: _Signature


class _Accusation(Struct, array_like=True, frozen=True, tag=3):
    accuser: Name
    node_id: Name
    incarnation: Count
    life: Count
    charge: Charge
    signature: _Signature


class _Removal(Struct, array_like=True, frozen=True, tag=4):
    node_id: Name
    incarnation: Count
    life: Count
    accusations: Annotated[tuple[_Accusation, ...], Meta(max_length=MAX_ACCUSATIONS)]


_Statements = Annotated[tuple[_Alive | _Left | _Accusation, ...], Meta(max_length=MAX_STATEMENTS)]


class _Heartbeat(Struct, array_like=True, frozen=True, tag=32):
    incarnation: Count
    number: _Number
    digest: Unsigned
    wants_answer: bool = False


class _Answer(Struct, array_like=True, frozen=True, tag=33):
    incarnation: Count
    digest: Unsigned


class _Hello(Struct, array_like=True, frozen=True, tag=34):
    alive: msgspec.Raw  # an _Alive
    digest: Unsigned
    size: Count


class _Petition(Struct, array_like=True, frozen=True, tag=35):
    turn: Annotated[int, Meta(ge=0, le=8)]
    statements: _Statements


class _Ask(Struct, array_like=True, frozen=True, tag=36):
    node_id: Name
    incarnation: Count
    life: Count
    charge: Charge


class _Vouch(Struct, array_like=True, frozen=True, tag=37):
    node_id: Name
    incarnation: Count
    life: Count
    charge: Charge


class _Notice(Struct, array_like=True, frozen=True, tag=38):
    digest: Unsigned
    size: Count


class _Pull(Struct, array_like=True, frozen=True, tag=39):
    digest: Unsigned
    alive: _Alive | None = None


class _Body(Struct, array_like=True, frozen=True, tag=40):
    base: Unsigned
    digest: Unsigned
    alive: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MAX_STATEMENTS)] = ()  # each an _Alive
    gone: Annotated[tuple[_Left | _Removal, ...], Meta(max_length=MAX_STATEMENTS)] = ()


class _Refusal(Struct, array_like=True, frozen=True, tag=41):
    code: Word
    incarnation: Count


class _Fetch(Struct, array_like=True, frozen=True, tag=42):
    wanted: Annotated[tuple[tuple[Name, _RecordHash], ...], Meta(max_length=MAX_FETCHED)]


class _Records(Struct, array_like=True, frozen=True, tag=43):
    records: Annotated[tuple[tuple[Name, _Record], ...], Meta(max_length=MAX_FETCHED)]


class _Codec(FrameCodec):
    """Statements of life are converted once."""

    def to_wire(self, value: Any) -> Any:
        """As a struct, as bytes ready to be sent, or as it is."""
        return _encode_alive(value) if isinstance(value, Alive) else super().to_wire(value)

    def to_ours(self, value: Any) -> Any:
        """The other way."""
        if not isinstance(value, msgspec.Raw):
            return super().to_ours(value)
        data = bytes(value)
        return (_remembered_alive if len(data) <= MAX_REMEMBERED_BYTES else _decode_alive)(data)


_codec = _Codec(
    CONTROL_VERSION,
    MAX_MEMBERSHIP_BYTES,
    _Heartbeat | _Answer | _Hello | _Petition | _Ask | _Vouch | _Notice | _Pull | _Body | _Refusal | _Fetch | _Records,
    {
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
    },
)


def encode_membership(message: MembershipMessage) -> bytes:
    """A message as a frame. Raises ``MessageTooLarge`` above ``MAX_MEMBERSHIP_BYTES``."""
    return _codec.encode(message)


def decode_membership(data: bytes) -> MembershipMessage:
    """The message in a frame. Raises ``ProtocolViolation``, and nothing else, for anything that is none."""
    message: MembershipMessage = _codec.decode(data)
    return message


_alive_decoder = msgspec.msgpack.Decoder(_Alive)


def _decode_alive(data: bytes) -> Alive:
    alive: Alive = _codec.to_ours(_alive_decoder.decode(data))
    return alive


@lru_cache(maxsize=MAX_REMEMBERED)
def _remembered_alive(data: bytes) -> Alive:
    return _decode_alive(data)


@lru_cache(maxsize=MAX_REMEMBERED)
def _encode_alive(alive: Alive) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(FrameCodec.to_wire(_codec, alive)))
