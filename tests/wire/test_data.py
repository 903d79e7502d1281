"""The typed codec of the data plane: whatever is encoded comes back, and run after run means what it says."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.errors import ProtocolViolation
from zmesh.model import MessagePriority, MessageType
from zmesh.wire.data import (
    FLAG_ACK_NOW,
    FLAG_PROBE,
    FLAG_REWIND,
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
    run_length,
)
from zmesh.wire.limits import GROUP_NAME_BYTES, MAX_NUMBER, MAX_TTL_MS

NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, MAX_NUMBER))
TIMES = st.integers(-MAX_NUMBER - 1, MAX_NUMBER)
AGENTS = st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1))
PAYLOADS = st.lists(st.binary(max_size=40), min_size=1, max_size=5)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    kind, payloads = draw(st.sampled_from(Kind)), draw(PAYLOADS)
    count = len(payloads)

    def column(of: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
        return st.lists(of, min_size=count, max_size=count)

    return Run(
        kind,
        draw(AGENTS),
        draw(AGENTS),
        draw(st.sampled_from(MessageType)),
        draw(st.sampled_from(MessagePriority)),
        draw(st.integers(0, MAX_TTL_MS)),
        payloads,
        draw(column(NUMBERS)) if kind >= Kind.REPLY else None,
        draw(st.none() | column(st.text(max_size=20))),
        draw(st.none() | column(TIMES)),
    )


NOTES = st.builds(
    TopicNote, st.sampled_from(TopicNoteKind), st.binary(min_size=2, max_size=GROUP_NAME_BYTES + 2), NUMBERS, NUMBERS
)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    carried = draw(st.lists(runs(), max_size=4))
    flags = draw(st.sampled_from([0, FLAG_REWIND, FLAG_ACK_NOW, FLAG_REWIND | FLAG_ACK_NOW]))
    return Frame(
        1,
        draw(NUMBERS),
        draw(NUMBERS),
        draw(st.integers(1, MAX_NUMBER)) if carried else 0,
        draw(NUMBERS),
        draw(NUMBERS),
        draw(TIMES),
        flags,
        carried,
        draw(st.none() | st.lists(NOTES, max_size=3)),
        draw(st.none() | st.lists(st.binary(max_size=40), max_size=3)),
    )


@settings(max_examples=200, deadline=None)
@given(frames())
def test_every_frame_comes_back(frame: Frame) -> None:
    data = encode(frame)
    assert decode_frame(data) == frame
    assert decode_frame(memoryview(data)) == frame
    assert msgpack.packb(msgpack.unpackb(data)) == data


TOPIC_RUNS = st.lists(st.builds(TopicRun, AGENTS, PAYLOADS), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.builds(TopicFrame, st.just(1), NUMBERS, st.integers(1, MAX_NUMBER), TIMES, TOPIC_RUNS))
def test_every_topic_frame_comes_back(frame: TopicFrame) -> None:
    data = encode(frame)
    assert decode_topic_frame(data) == frame
    assert msgpack.packb(msgpack.unpackb(data)) == data


def frame_of(*carried: Run, first: int = 1, flags: int = 0) -> bytes:
    return encode(Frame(1, 10, 11, first, 1, 1000, 0, flags, list(carried)))


def plain_run(*payloads: bytes, part: tuple[int, int] | None = None) -> Run:
    return Run(Kind.MESSAGE, 9, 7, 1, 1, 0, list(payloads), part=part)


def test_a_run_is_as_long_as_its_payloads_and_an_attachment_counts_one() -> None:
    assert run_length(plain_run(b"a", b"", b"b")) == 3
    assert run_length(plain_run(part=(10, 0))) == 1


def test_a_small_message_costs_two_bytes_more_than_its_payload() -> None:
    few, many = frame_of(plain_run(*[bytes(64)] * 20)), frame_of(plain_run(*[bytes(64)] * 120))
    assert (len(many) - len(few)) / 100 == 66


def test_numbers_on_the_wire_are_those_of_the_types() -> None:
    assert [int(kind) for kind in Kind] == [0, 1, 2, 3]
    assert [kind.name for kind in TopicNoteKind] == ["SUBSCRIBED", "POSITION", "REPAIR", "TAIL", "GONE", "UNSUBSCRIBED"]
    assert [int(kind) for kind in MessageType] == [0, 1, 2, 3, 4, 5]
    assert [int(priority) for priority in MessagePriority] == [0, 1, 2, 3]
    assert (FLAG_PROBE, FLAG_REWIND, FLAG_ACK_NOW) == (1, 2, 4)


def test_an_attachment_is_alone_in_its_frame() -> None:
    chunk = plain_run(part=(10, 0))
    assert decode_frame(frame_of(chunk)).runs == [chunk]
    for neighbours in ([chunk, chunk], [chunk, plain_run(b"a")], [plain_run(b"a"), chunk]):
        with pytest.raises(ProtocolViolation, match="shares its frame"):
            decode_frame(frame_of(*neighbours))


@pytest.mark.parametrize("part", [(0, 0), (10, 10), (10, 11), (-1, 0), (10, -1)])
def test_a_part_lies_inside_its_message(part: tuple[int, int]) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        decode_frame(frame_of(plain_run(part=part)))
    assert refused.value.reason == "malformed_frame"


@pytest.mark.parametrize("topic", [b"", b"*", bytes(GROUP_NAME_BYTES + 3)])
def test_a_note_names_a_topic_that_can_be(topic: bytes) -> None:
    frame = Frame(1, 10, 11, 0, 1, 1000, 0, 0, [], [TopicNote(TopicNoteKind.TAIL, topic, 1, 1)])
    with pytest.raises(ProtocolViolation):
        decode_frame(encode(frame))


def test_another_version_is_called_so_whatever_its_shape() -> None:
    for other in ([2], [2, "x"], [0, 1, 2], [255]):
        for decode in (decode_frame, decode_topic_frame):
            with pytest.raises(ProtocolViolation) as refused:
                decode(msgpack.packb(other))
            assert refused.value.reason == "wrong_version"


def test_a_failure_comes_back_and_is_cut_to_its_limits() -> None:
    assert decode_failure(encode_failure("ValueError", "no such thing")) == ("ValueError", "no such thing")
    error_type, error_text = decode_failure(encode_failure("E" * 1000, "é" * 10_000))
    assert (len(error_type), len(error_text)) == (200, 4096)
