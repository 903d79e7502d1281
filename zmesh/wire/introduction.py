"""Introduction messages as bytes: docs/spec/02-control-plane.md, section 2, which has the golden vectors."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from zmesh.core.introduction.messages import Enrol, Enrolled, Hello, IntroductionMessage, Rejection, Welcome
from zmesh.wire.fields import KIB, Chain, ContactFields, Count, FrameCodec, MachineId, Name, Word

__all__ = ["MAX_INTRODUCTION_BYTES", "decode_introduction", "encode_introduction"]

INTRODUCTION_VERSION: Final = 1  # of the frames in which the version of all others is agreed on: best never changed
MAX_INTRODUCTION_BYTES: Final = 16 * KIB  # strangers: a certificate chain of 4 KiB, 16 hosts, and room to grow


class _Hello(Struct, array_like=True, frozen=True, tag=16):
    versions: Annotated[tuple[Count, ...], Meta(max_length=16)]
    mesh_id: MachineId
    certificate: Chain
    contact: ContactFields


class _Welcome(Struct, array_like=True, frozen=True, tag=17):
    version: Count
    certificate: Chain
    contact: ContactFields


class _Rejection(Struct, array_like=True, frozen=True, tag=18):
    code: Word
    detail: Annotated[str, Meta(max_length=1024)]


class _Enrol(Struct, array_like=True, frozen=True, tag=19):
    invitation_id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    name: Name
    curve_public: Annotated[bytes, Meta(min_length=40, max_length=40)]
    signing_public: Annotated[bytes, Meta(min_length=32, max_length=32)]
    proof: Annotated[bytes, Meta(min_length=32, max_length=32)]


class _Enrolled(Struct, array_like=True, frozen=True, tag=20):
    sealed: Annotated[bytes, Meta(max_length=8 * KIB)]


_codec = FrameCodec(
    INTRODUCTION_VERSION,
    MAX_INTRODUCTION_BYTES,
    _Hello | _Welcome | _Rejection | _Enrol | _Enrolled,
    {_Hello: Hello, _Welcome: Welcome, _Rejection: Rejection, _Enrol: Enrol, _Enrolled: Enrolled},
)


def encode_introduction(message: IntroductionMessage) -> bytes:
    """An introduction message as a frame. Raises ``MessageTooLarge`` above ``MAX_INTRODUCTION_BYTES``."""
    return _codec.encode(message)


def decode_introduction(data: bytes) -> IntroductionMessage:
    """The introduction message in a frame. Raises ``ProtocolViolation``, and nothing else."""
    message: IntroductionMessage = _codec.decode(data)
    return message
