"""Fields that several control codecs share, with their limits, and frames: a version byte, then one MessagePack array.

Fields that a later version appends are skipped; anything else that differs from the specification is a
``ProtocolViolation`` (docs/spec/02-control-plane.md, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import Meta, Struct

from zmesh.core.membership.member import Contact
from zmesh.errors import MessageTooLarge, ProtocolViolation

__all__ = [
    "KIB",
    "Chain",
    "ContactFields",
    "Count",
    "FrameCodec",
    "Hosts",
    "MachineId",
    "Name",
    "Port",
    "Unsigned",
    "Word",
]

KIB: Final = 1024

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}(/[A-Za-z0-9][A-Za-z0-9._-]{0,30})?\Z")]
Word = Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")]
Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:%_-]{1,255}\Z")]  # goes into an endpoint: no ';', '/' or '*'
Hosts = Annotated[tuple[Host, ...], Meta(max_length=16)]
Port = Annotated[int, Meta(ge=1, le=65535)]
MachineId = Annotated[str, Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Unsigned = Annotated[int, Meta(ge=0)]  # MessagePack ends at 64 bits by itself
Chain = Annotated[bytes, Meta(max_length=4 * KIB)]


class ContactFields(Struct, array_like=True, frozen=True):
    """A ``Contact`` on the wire."""

    node_id: Name
    incarnation: Count
    hosts: Hosts
    introduction_port: Port
    machine: MachineId


def _is_flat(wire: type[Struct]) -> bool:
    """Whether no field has anything inside that would have to be converted: heartbeats, the most of all frames."""
    plain = [get_args(field.type)[0] if get_args(field.type) else field.type for field in msgspec.structs.fields(wire)]
    return all(isinstance(kind, type) and issubclass(kind, (int, str, bytes)) for kind in plain)


class FrameCodec:
    """Frames of one kind of talk: ``pairs`` says which struct is on the wire for which of our own types."""

    def __init__(self, version: int, limit: int, decoded: Any, pairs: Mapping[type[Struct], type[Any]]) -> None:
        """``decoded``: the struct that a frame has, or the union of them. ``limit``: bytes."""
        self._version = bytes([version])
        self._limit = limit
        self._decoder = msgspec.msgpack.Decoder(decoded)
        self._pairs: dict[type[Any], type[Any]] = {ContactFields: Contact, **pairs}
        self._wire_of = {ours: wire for wire, ours in self._pairs.items()}
        self._flat = {wire: ours for wire, ours in self._pairs.items() if _is_flat(wire)}

    def encode(self, message: object) -> bytes:
        """The frame. Raises ``MessageTooLarge``."""
        data = self._version + msgspec.msgpack.encode(self.to_wire(message))
        if len(data) > self._limit:
            what = type(message).__name__
            raise MessageTooLarge(f"a {what} of {len(data)} bytes exceeds the limit of {self._limit} bytes")
        return data

    def decode(self, data: bytes) -> Any:
        """What a frame says. Raises ``ProtocolViolation``, and nothing else, for anything that is none."""
        if len(data) > self._limit:
            raise ProtocolViolation("oversize_frame", f"{len(data)} bytes, {self._limit} at most are allowed")
        if data[:1] != self._version:
            raise ProtocolViolation("wrong_version", f"the frame starts with {data[:1].hex() or 'nothing'}")
        try:
            return self.to_ours(self._decoder.decode(memoryview(data)[1:]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolViolation("malformed_frame", str(error)) from None

    def to_wire(self, value: Any) -> Any:
        """As a struct, or as it is."""
        wire = self._wire_of.get(type(value))
        if wire is not None:
            return wire(*(self.to_wire(getattr(value, name)) for name in wire.__struct_fields__))
        return tuple(map(self.to_wire, value)) if isinstance(value, tuple) else value

    def to_ours(self, value: Any) -> Any:
        """The other way."""
        flat = self._flat.get(type(value))
        if flat is not None:
            return flat(*msgspec.structs.astuple(value))
        ours = self._pairs.get(type(value))
        if ours is not None:
            return ours(*map(self.to_ours, msgspec.structs.astuple(value)))
        return tuple(map(self.to_ours, value)) if isinstance(value, tuple) else value
