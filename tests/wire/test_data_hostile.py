"""Bytes from a peer that errs or attacks: nothing but ``ProtocolViolation`` escapes, and nothing is multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.errors import ProtocolViolation
from zmesh.wire.data import (
    Frame,
    Kind,
    Run,
    TopicFrame,
    TopicNote,
    TopicNoteKind,
    TopicRun,
    decode_failure,
    decode_frame,
    decode_topic_frame,
    encode,
    encode_failure,
)
from zmesh.wire.limits import MAX_PART_BYTES

Decoder = Callable[[bytes], object]

WHOLE: dict[str, tuple[Decoder, bytes]] = {
    "messages": (
        decode_frame,
        encode(
            Frame(1, 10, 11, 5, 3, 1 << 22, 99, 4, [Run(Kind.MESSAGE, 9, 7, 1, 1, 0, [b"a", b"bc"], None, ["i", "j"])])
        ),
    ),
    "reply": (
        decode_frame,
        encode(Frame(1, 10, 11, 5, 3, 1 << 22, 99, 0, [Run(Kind.REPLY, 9, 7, 3, 1, 0, [b"a"], [4])])),
    ),
    "chunk": (
        decode_frame,
        encode(Frame(1, 10, 11, 5, 3, 1 << 22, 99, 0, [Run(Kind.REQUEST, 9, 7, 2, 1, 0, [], part=(1 << 21, 1 << 20))])),
    ),
    "notes": (
        decode_frame,
        encode(
            Frame(1, 10, 11, 0, 3, 1 << 22, 99, 2, [], [TopicNote(TopicNoteKind.GONE, b"glab\0", 10, 4)], [b"glab\0"])
        ),
    ),
    "topic": (decode_topic_frame, encode(TopicFrame(1, 10, 5, 99, [TopicRun(7, [b"a", b"bc"])]))),
    "failure": (decode_failure, encode_failure("ValueError", "no")),
}
WRONG_VALUES: list[Any] = [
    None,
    True,
    -1,
    1.5,
    1 << 63,
    (1 << 64) - 1,
    -(1 << 63),
    "text",
    b"bytes",
    [],
    [None],
    [[]],
    {},
    {"a": 1},
    msgpack.ExtType(5, b"x"),
    msgpack.Timestamp(1, 2),
]


def outcome(decode: Decoder, data: bytes) -> str:
    """``ok``, or the reason; any other exception fails the test that called."""
    try:
        decode(data)
    except ProtocolViolation as violation:
        return violation.reason
    return "ok"


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_is_good(name: str) -> None:
    assert outcome(*WHOLE[name]) == "ok"


@pytest.mark.parametrize("name", WHOLE)
def test_every_beginning_of_it_is_not(name: str) -> None:
    decode, whole = WHOLE[name]
    assert {outcome(decode, whole[:length]) for length in range(len(whole))} == {"malformed_frame"}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("trailing", [b"\0", b"\xc0", b"\xc1", bytes(100)])
def test_nothing_may_follow(name: str, trailing: bytes) -> None:
    decode, whole = WHOLE[name]
    assert outcome(decode, whole + trailing) == "malformed_frame"


@pytest.mark.parametrize("name", WHOLE)
def test_every_byte_may_be_any_other(name: str) -> None:
    decode, whole = WHOLE[name]
    reasons = {
        outcome(decode, whole[:at] + bytes([value]) + whole[at + 1 :])
        for at in range(len(whole))
        for value in range(256)
    }
    assert reasons <= {"ok", "malformed_frame", "wrong_version"}
    assert "malformed_frame" in reasons


@pytest.mark.parametrize("name", WHOLE)
def test_every_field_may_be_anything_or_missing(name: str) -> None:
    decode, whole = WHOLE[name]
    for wrong in _changed(msgpack.unpackb(whole), 4):
        assert outcome(decode, msgpack.packb(wrong)) in {"ok", "malformed_frame", "wrong_version"}


def _changed(value: Any, depth: int) -> list[Any]:
    """Copies of a nested list with each element in turn replaced, left out, or doubled."""
    if not isinstance(value, list) or not depth:
        return list(WRONG_VALUES)
    copies = list(WRONG_VALUES)
    for at, element in enumerate(value):
        copies += [[*value[:at], changed, *value[at + 1 :]] for changed in _changed(element, depth - 1)]
        copies += [value[:at] + value[at + 1 :], value[:at], value[: at + 1] + value[at:]]
    return copies


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused_or_good(name: str, data: bytes) -> None:
    decode, whole = WHOLE[name]
    outcome(decode, data)
    outcome(decode, whole[:1] + data)
    outcome(decode, whole[: len(whole) // 2] + data)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(b"\x91" * 200_000 + b"\xc0", id="deep arrays"),
        pytest.param(b"\x81\xa0" * 200_000 + b"\xc0", id="deep maps"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="4 G elements announced"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="4 G pairs announced"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="4 GiB of bytes announced"),
        pytest.param(b"\xdb\xff\xff\xff\xff", id="4 GiB of text announced"),
        pytest.param(b"\xc9\xff\xff\xff\xff\x01", id="4 GiB of extension announced"),
        pytest.param(b"\xa2\xff\xfe", id="text that is not UTF-8"),
    ],
)
def test_a_bomb_in_any_place_is_refused(name: str, bomb: bytes) -> None:
    decode, whole = WHOLE[name]
    assert outcome(decode, bomb) == "malformed_frame"
    length = len(msgpack.unpackb(whole))
    for at in range(length + 1):  # the last one: behind all fields, where what can be skipped is ignored
        fields = [msgpack.packb(field) for field in msgpack.unpackb(whole)]
        fields[at:] = [bomb]
        packed = bytes([0x90 | len(fields)]) + b"".join(fields)
        assert outcome(decode, packed) == "malformed_frame" or at == length


def test_the_largest_part_of_nothing_but_records_is_decoded() -> None:
    """As many records as fit: a receiver's work is bounded by the part's size."""
    payloads = [b""] * ((MAX_PART_BYTES - 100) // 2)
    frame = encode(Frame(1, 10, 11, 5, 3, 1 << 22, 99, 0, [Run(Kind.MESSAGE, 9, 7, 1, 1, 0, payloads)]))
    assert len(frame) <= MAX_PART_BYTES
    decoded = decode_frame(frame)
    assert len(decoded.runs[0].payloads) == len(payloads)
