"""Frames of the data plane (docs/spec/03-data-plane.md).

A frame carries numbered records. Records that agree in everything but payload share a *run*, whose columns are lists:
that is what makes a 64-byte message cost 66 bytes and some 35 ns to encode or decode.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from zmesh.errors import ProtocolViolation
from zmesh.wire.limits import MAX_NUMBER, MAX_TOPIC_BYTES, MAX_TTL_MS, WIRE_VERSION

__all__ = [
    "FLAG_ACK_NOW",
    "FLAG_PROBE",
    "FLAG_RESET",
    "FLAG_REWIND",
    "Frame",
    "Kind",
    "Run",
    "TopicFrame",
    "TopicNote",
    "TopicNoteKind",
    "TopicRun",
    "decode_failure",
    "decode_frame",
    "decode_topic_frame",
    "encode",
    "encode_failure",
    "run_length",
]

FLAG_PROBE: Final = 1  # answer at once with what you have
FLAG_REWIND: Final = 2  # records are missing: send again from ``ack``
FLAG_ACK_NOW: Final = 4  # somebody waits for the ack of these records
FLAG_RESET: Final = 8  # your session, which this frame names, went to a process that is no more: begin anew
KNOWN_FLAGS: Final = FLAG_PROBE | FLAG_REWIND | FLAG_ACK_NOW | FLAG_RESET

_Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
_Timestamp = Annotated[int, Meta(ge=-MAX_NUMBER - 1, le=MAX_NUMBER)]
_AgentId = Annotated[int, Meta(ge=0)]  # MessagePack ends at 64 bits by itself
_Topic = Annotated[bytes, Meta(min_length=2, max_length=MAX_TOPIC_BYTES)]


class Kind(enum.IntEnum):
    """What the records of a run are."""

    MESSAGE = 0
    REQUEST = 1
    REPLY = 2  # ``correlations`` holds the number of each request
    FAILURE = 3  # as REPLY; the payload is ``encode_failure``'s


class TopicNoteKind(enum.IntEnum):
    """What publisher and subscriber tell each other about a topic, over the data plane."""

    SUBSCRIBED = 0  # publisher: your subscription is live, and ``position`` is the next number
    POSITION = 1  # subscriber: I have everything below ``position``
    REPAIR = 2  # subscriber: I miss everything from ``position`` on that you have published
    TAIL = 3  # publisher: I have published everything below ``position``; say what you have
    GONE = 4  # publisher: what you miss below ``position`` is no longer held
    UNSUBSCRIBED = 5  # subscriber: stop waiting for me


class TopicNote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One such note. ``incarnation`` is the publisher's."""

    kind: TopicNoteKind
    topic: _Topic
    incarnation: _Number
    position: _Number


class Run(msgspec.Struct, array_like=True, gc=False):
    """Consecutive records that agree in everything but their columns.

    ``payloads`` is empty, and ``part`` is ``(total_bytes, offset)``, for a record whose payload is the frame's
    attachment; such a run is alone in its frame. ``ids`` and ``timestamps`` are given where the sender's user chose
    them; else they follow from the numbers and the frame.
    """

    kind: Kind
    to_agent: _AgentId
    from_agent: _AgentId
    message_type: Annotated[int, Meta(ge=0, le=5)]
    priority: Annotated[int, Meta(ge=0, le=3)]
    ttl_ms: Annotated[int, Meta(ge=0, le=MAX_TTL_MS)]
    payloads: list[bytes]
    correlations: list[int] | None = None
    ids: list[str] | None = None
    timestamps: list[_Timestamp] | None = None
    part: tuple[_Number, _Number] | None = None


class Frame(msgspec.Struct, array_like=True, gc=False):
    """One ZeroMQ message from a node to a peer.

    ``first`` is the number of the first record; 0 where the frame carries none; in a PROBE, which carries none, the
    number that the sender's next record will have.
    """

    version: int
    sender_session: _Number
    receiver_session: _Number  # as the sender knows it; 0 while it does not
    first: _Number
    ack: _Number
    limit: _Number
    timestamp: _Timestamp
    flags: int
    runs: list[Run]
    notes: list[TopicNote] | None = None
    repairs: list[bytes] | None = None  # encoded topic frames, each after its topic's prefix, sent again


class TopicRun(msgspec.Struct, array_like=True, gc=False):
    """Consecutive messages one agent published to a topic."""

    from_agent: _AgentId
    payloads: list[bytes]


class TopicFrame(msgspec.Struct, array_like=True, gc=False):
    """What follows the topic's prefix in a frame of the publish socket."""

    version: int
    incarnation: _Number
    first: Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
    timestamp: _Timestamp
    runs: list[TopicRun]


class _Versioned(msgspec.Struct, array_like=True):
    """What frames of all versions have in common."""

    version: int


class _Failure(msgspec.Struct, array_like=True):
    error_type: str
    error_text: str


encode = msgspec.msgpack.Encoder().encode
_frame_decoder = msgspec.msgpack.Decoder(Frame)
_topic_decoder = msgspec.msgpack.Decoder(TopicFrame)
_version_decoder = msgspec.msgpack.Decoder(_Versioned)
_failure_decoder = msgspec.msgpack.Decoder(_Failure)


_REPLY = Kind.REPLY  # looked up once: an attribute of an enumeration costs 100 ns in CPython 3.11


def run_length(run: Run) -> int:
    """How many records a run holds."""
    return 1 if run.part is not None else len(run.payloads)


def decode_frame(data: bytes | memoryview) -> Frame:
    """Decode and check a frame's own consistency. Raises ``ProtocolViolation``; nothing else escapes."""
    try:
        frame = _frame_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _undecodable(data, error) from None
    if frame.version != WIRE_VERSION:
        _check_version(frame.version)
    if frame.flags & ~KNOWN_FLAGS:
        raise ProtocolViolation("malformed_frame", f"unknown flags {frame.flags:#x}")
    if bool(frame.runs) == bool(frame.flags & FLAG_PROBE or not frame.first):
        raise ProtocolViolation("malformed_frame", "records without a number, or a number without records")
    for run in frame.runs:
        _check_run(run, len(frame.runs))
    return frame


def _undecodable(data: bytes | memoryview, error: Exception) -> ProtocolViolation:
    """Why: another version may have another layout, and is to be called that."""
    try:
        _check_version(_version_decoder.decode(data).version)
    except ProtocolViolation as violation:
        return violation
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ProtocolViolation("malformed_frame", str(error))
    return ProtocolViolation("malformed_frame", str(error))


def _check_version(version: int) -> None:
    if version != WIRE_VERSION:
        raise ProtocolViolation("wrong_version", f"frame of version {version}, this node speaks {WIRE_VERSION}")


def _check_run(run: Run, runs: int) -> None:
    count = len(run.payloads)
    if run.part is not None:
        _check_part(run, runs)
        count = 1
    elif count == 0:
        raise ProtocolViolation("malformed_frame", "empty run")
    correlations = run.correlations
    if (correlations is not None) != (run.kind >= _REPLY):
        raise ProtocolViolation("malformed_frame", "correlations belong to replies, and only to them")
    if (
        (correlations is not None and len(correlations) != count)
        or (run.ids is not None and len(run.ids) != count)
        or (run.timestamps is not None and len(run.timestamps) != count)
    ):
        raise ProtocolViolation("malformed_frame", "columns of unequal length")


def _check_part(run: Run, runs: int) -> None:
    total, offset = run.part or (0, 0)
    if run.payloads or offset >= total:
        raise ProtocolViolation("malformed_frame", "attachment outside of its message")
    if runs > 1:
        # Each of them would be given the attachment: a frame could so multiply itself.
        raise ProtocolViolation("malformed_frame", "an attachment's run shares its frame")


def decode_topic_frame(data: bytes | memoryview) -> TopicFrame:
    """Decode what follows the prefix on the publish socket. Raises ``ProtocolViolation``."""
    try:
        frame = _topic_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _undecodable(data, error) from None
    _check_version(frame.version)
    if not frame.runs or not all(run.payloads for run in frame.runs):
        raise ProtocolViolation("malformed_frame", "topic frame without messages")
    return frame


def encode_failure(error_type: str, error_text: str) -> bytes:
    """The payload of a FAILURE record; the text is cut at 4 KiB so that a failure is never larger than its request."""
    return encode(_Failure(_encodable(error_type[:200]), _encodable(error_text[:4096])))


def _encodable(text: str) -> str:
    """The text with a question mark for every half of a surrogate pair, which UTF-8 cannot say."""
    return text.encode("utf-8", "replace").decode()


def decode_failure(payload: bytes) -> tuple[str, str]:
    """The ``(error_type, error_text)`` of a FAILURE record. Raises ``ProtocolViolation``."""
    try:
        failure = _failure_decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolViolation("malformed_frame", f"failure record: {error}") from None
    return failure.error_type, failure.error_text
