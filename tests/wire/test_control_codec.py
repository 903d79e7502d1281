"""Control frames that are cut, lengthened, flipped, too large, or nonsense: ``ProtocolViolation`` and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zmesh.core.membership.member import AgentRecord, Contact, NodeRecord

from tests.wire.test_control_vectors import FIRST_INTRODUCTION_KIND, FRAMES
from zmesh.core.introduction.messages import Rejection
from zmesh.core.membership.messages import Contacts, Goodbye, Heartbeat, RecordAnswer
from zmesh.errors import ConfigurationError, MessageTooLarge, ProtocolViolation
from zmesh.wire.control import (
    MAX_CONTROL_BYTES,
    MAX_INTRODUCTION_BYTES,
    check_agent,
    decode_control,
    decode_introduction,
    encode_control,
    encode_introduction,
)

RECORD = NodeRecord("desk", 5, 1, b"c", "m", ("10.0.0.5",), 7650, 7651, 7652, 7653)
Decoder = Callable[[bytes], object]


def decoder_of(name: str) -> Decoder:
    is_introduction = msgpack.unpackb(FRAMES[name][1:])[0] >= FIRST_INTRODUCTION_KIND
    return decode_introduction if is_introduction else decode_control


def violation(decode: Decoder, data: bytes) -> str:
    with pytest.raises(ProtocolViolation) as caught:
        decode(data)
    return caught.value.reason


def frame(*fields: Any) -> bytes:
    return b"\x01" + bytes(msgpack.packb(fields))


@pytest.mark.parametrize("name", FRAMES)
def test_cut_anywhere(name: str) -> None:
    decode, data = decoder_of(name), FRAMES[name]
    for length in range(len(data)):
        assert violation(decode, data[:length]) == ("wrong_version" if length == 0 else "malformed_frame")


@pytest.mark.parametrize("name", FRAMES)
def test_trailing_bytes(name: str) -> None:
    for tail in (b"\0", b"\xc0", FRAMES[name]):
        assert violation(decoder_of(name), FRAMES[name] + tail) == "malformed_frame"


@pytest.mark.parametrize("name", FRAMES)
def test_fields_that_a_later_version_appends_are_skipped(name: str) -> None:
    fields = msgpack.unpackb(FRAMES[name][1:])
    decode = decoder_of(name)
    if name in ("heartbeat", "probe"):
        assert decode(frame(*fields, False, {"new": [1, 2]})) in (decode(FRAMES[name]), Heartbeat(*fields[1:]))
    else:
        assert decode(frame(*fields, 17, {"new": [1, 2]})) == decode(FRAMES[name])


def test_an_agent_of_a_node_that_knows_no_health_checks_is_well() -> None:
    kind, record = msgpack.unpackb(FRAMES["record-answer"][1:])
    record[10] = [agent[:3] for agent in record[10]]
    answer = decode_control(frame(kind, record))
    assert isinstance(answer, RecordAnswer)
    assert [agent.healthy for agent in answer.record.agents] == [True, True]


def test_fields_that_a_later_version_appends_to_an_agent_are_skipped() -> None:
    """As a node that knows no health checks does with what this one sends."""
    kind, record = msgpack.unpackb(FRAMES["record-answer"][1:])
    record[10] = [[*agent, "new"] for agent in record[10]]
    assert decode_control(frame(kind, record)) == decode_control(FRAMES["record-answer"])


@pytest.mark.parametrize("name", FRAMES)
def test_every_bit_flipped(name: str) -> None:
    decode, data = decoder_of(name), FRAMES[name]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        decode_or_violation(decode, bytes(flipped))


def decode_or_violation(decode: Decoder, data: bytes) -> None:
    reason = ""
    try:
        decode(data)
    except ProtocolViolation as refused:
        reason = refused.reason
    assert reason in ("", "malformed_frame", "wrong_version", "oversize_frame")


@given(st.binary(max_size=300))
def test_garbage(data: bytes) -> None:
    for decode in (decode_control, decode_introduction):
        decode_or_violation(decode, data)
        decode_or_violation(decode, b"\x01" + data)


@given(st.sampled_from(sorted(FRAMES)), st.randoms(use_true_random=False))
def test_spliced(name: str, chance: random.Random) -> None:
    data = bytearray(FRAMES[name])
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(data))
        data[start : start + chance.randint(0, 4)] = chance.randbytes(chance.randint(0, 4))
    decode_or_violation(decoder_of(name), bytes(data))


def test_every_other_version_is_refused() -> None:
    for version in range(256):
        if version != 1:
            assert violation(decode_control, bytes([version]) + FRAMES["goodbye"][1:]) == "wrong_version"


def test_the_planes_do_not_mix() -> None:
    assert violation(decode_control, FRAMES["hello"]) == "malformed_frame"
    assert violation(decode_introduction, FRAMES["heartbeat"]) == "malformed_frame"
    assert violation(decode_control, frame(99, 1)) == "malformed_frame"


def test_nesting_does_not_end_the_process() -> None:
    assert violation(decode_control, b"\x01" + b"\x91" * 100_000) == "malformed_frame"
    assert violation(decode_control, b"\x01\x96\x01\x01\x01\x01\xc2" + b"\x91" * 100_000 + b"\xc0") == "malformed_frame"


def test_oversize_frames_are_neither_read_nor_made() -> None:
    assert violation(decode_control, b"\x01" + bytes(MAX_CONTROL_BYTES)) == "oversize_frame"
    assert violation(decode_introduction, b"\x01" + bytes(MAX_INTRODUCTION_BYTES)) == "oversize_frame"
    agents = tuple(AgentRecord(number, (), {"text": "x" * 60_000}) for number in range(200))
    with pytest.raises(MessageTooLarge, match="exceeds the limit"):
        encode_control(RecordAnswer(replace(RECORD, agents=agents)))
    with pytest.raises(MessageTooLarge, match="exceeds the limit"):
        encode_introduction(Rejection("no", "x" * 20_000))


BAD_CONTACTS = [
    Contact("", 1, ("h",), 7650, ""),
    Contact("desk\n", 1, ("h",), 7650, ""),
    Contact("a b", 1, ("h",), 7650, ""),
    Contact("x" * 64, 1, ("h",), 7650, ""),
    Contact("desk", -1, ("h",), 7650, ""),
    Contact("desk", 1 << 63, ("h",), 7650, ""),
    Contact("desk", 1, ("10.0.0.1;10.0.0.2",), 7650, ""),
    Contact("desk", 1, ("*",), 7650, ""),
    Contact("desk", 1, ("h\n",), 7650, ""),
    Contact("desk", 1, ("",), 7650, ""),
    Contact("desk", 1, ("h",) * 17, 7650, ""),
    Contact("desk", 1, ("h",), 0, ""),
    Contact("desk", 1, ("h",), 65536, ""),
    Contact("desk", 1, ("h",), 7650, "m" * 65),
]


@pytest.mark.parametrize("contact", BAD_CONTACTS, ids=repr)
def test_a_contact_that_breaks_a_limit(contact: Contact) -> None:
    assert violation(decode_control, encode_control(Contacts((contact,)))) == "malformed_frame"


def test_limits_of_records_and_messages() -> None:
    twice = replace(RECORD, agents=(AgentRecord(1), AgentRecord(1)))
    assert violation(decode_control, encode_control(RecordAnswer(twice))) == "malformed_frame"
    many = replace(RECORD, agents=tuple(AgentRecord(number) for number in range(10_001)))
    assert violation(decode_control, encode_control(RecordAnswer(many))) == "malformed_frame"
    chain = replace(RECORD, certificate=bytes(4097))
    assert violation(decode_control, encode_control(RecordAnswer(chain))) == "malformed_frame"
    contacts = Contacts((Contact("desk", 1, (), 7650, ""),) * 1025)
    assert violation(decode_control, encode_control(contacts)) == "malformed_frame"
    assert violation(decode_control, frame(5, -1)) == violation(decode_control, frame(5, True)) == "malformed_frame"
    assert decode_control(frame(5, (1 << 63) - 1)) == Goodbye((1 << 63) - 1)
    assert violation(decode_control, frame(5, 1 << 63)) == "malformed_frame"
    assert violation(decode_introduction, frame(18, "Not A Word", "")) == "malformed_frame"


def test_the_largest_record_passes() -> None:
    agents = tuple(AgentRecord(number, ("echo", "summarize"), {"model": "x" * 100}) for number in range(10_000))
    message = RecordAnswer(replace(RECORD, agents=agents))
    assert decode_control(encode_control(message)) == message


def test_agents_are_checked_before_they_are_announced() -> None:
    check_agent(AgentRecord((1 << 64) - 1, ("echo",), {"key": "value"}))
    for agent in (AgentRecord(1, ("x" * 257,)), AgentRecord(-1), AgentRecord(1 << 64), AgentRecord(1, ("\ud800",))):
        with pytest.raises(ConfigurationError, match=r"agent -?\d+ cannot be described to peers"):
            check_agent(agent)
    with pytest.raises(ConfigurationError, match="cannot be described"):
        check_agent(AgentRecord(1, (), {"k": "x" * 70_000}))
