"""Large messages: docs/spec/03-data-plane.md, section 7, and against a reference too dumb to be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.core.delivery import Reassembly
from zmesh.errors import ProtocolViolation

LIMIT = 20


@pytest.fixture
def reassembly() -> Reassembly:
    return Reassembly(LIMIT)


def test_chunks_are_joined_in_order(reassembly: Reassembly) -> None:
    assert reassembly.receive(6, 0, b"ab") is None
    assert reassembly.receive(6, 2, memoryview(b"cde")) is None
    assert reassembly.held_bytes == 5
    assert reassembly.receive(6, 5, b"f") == b"abcdef"
    assert reassembly.held_bytes == 0


def test_one_chunk_may_be_the_whole(reassembly: Reassembly) -> None:
    whole = reassembly.receive(3, 0, memoryview(b"abc"))
    assert whole == b"abc"
    assert type(whole) is bytes


def test_a_message_above_the_limit_is_refused_at_its_first_chunk(reassembly: Reassembly) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        reassembly.receive(LIMIT + 1, 0, b"a")
    assert refused.value.reason == "oversize_message"
    assert reassembly.receive(LIMIT, 0, bytes(LIMIT)) == bytes(LIMIT)


@pytest.mark.parametrize(
    ("total", "offset", "chunk"),
    [
        pytest.param(6, 3, b"d", id="a hole"),
        pytest.param(6, 1, b"b", id="twice"),
        pytest.param(6, 2, b"cdefg", id="beyond the end"),
        pytest.param(6, 2, b"", id="empty"),
        pytest.param(7, 2, b"c", id="another total"),
        pytest.param(6, 0, b"", id="empty first"),
        pytest.param(6, 0, b"abcdefg", id="longer than its total"),
    ],
)
def test_a_chunk_out_of_order_is_refused(reassembly: Reassembly, total: int, offset: int, chunk: bytes) -> None:
    reassembly.receive(6, 0, b"ab")
    with pytest.raises(ProtocolViolation) as refused:
        reassembly.receive(total, offset, chunk)
    assert refused.value.reason == "chunk_out_of_order"
    assert reassembly.held_bytes == 0
    assert reassembly.receive(2, 0, b"ok") == b"ok"


def test_a_chunk_without_a_beginning_is_refused(reassembly: Reassembly) -> None:
    with pytest.raises(ProtocolViolation):
        reassembly.receive(6, 2, b"c")


def test_a_message_given_up_is_dropped_when_the_next_begins(reassembly: Reassembly) -> None:
    reassembly.receive(6, 0, b"ab")
    assert reassembly.receive(4, 0, b"AB") is None
    assert reassembly.abandoned == 1
    assert reassembly.receive(4, 2, b"CD") == b"ABCD"


def test_a_whole_message_may_come_between_the_chunks_of_another(reassembly: Reassembly) -> None:
    reassembly.receive(6, 0, b"ab")
    assert reassembly.receive(2, 0, b"xy") == b"xy"
    assert (reassembly.abandoned, reassembly.held_bytes) == (0, 2)
    assert reassembly.receive(6, 2, b"cdef") == b"abcdef"


def test_an_announced_size_costs_no_memory(reassembly: Reassembly) -> None:
    big = Reassembly(1 << 40)
    assert big.receive(1 << 40, 0, b"a") is None
    assert big.held_bytes == 1


class Reference:
    """Remembers every chunk since the last beginning, and looks at them all each time."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, int, bytes]] = []

    def receive(self, total: int, offset: int, chunk: bytes) -> bytes | None:
        if offset == 0 and len(chunk) == total <= LIMIT:
            return chunk
        if offset == 0:
            self.chunks = []
        self.chunks.append((total, offset, chunk))
        joined = b"".join(chunk for _, _, chunk in self.chunks)
        where = [sum(len(chunk) for _, _, chunk in self.chunks[:i]) for i in range(len(self.chunks))]
        is_wrong = (
            total > LIMIT
            or any(size != total for size, _, _ in self.chunks)
            or [offset for _, offset, _ in self.chunks] != where
            or any(not chunk for _, _, chunk in self.chunks)
            or len(joined) > total
        )
        if is_wrong or len(joined) == total:
            self.chunks = []
        if is_wrong:
            raise ProtocolViolation("wrong")
        return joined if len(joined) == total else None


CHUNKS = st.tuples(st.integers(1, LIMIT + 2), st.integers(0, 6), st.binary(max_size=4))
MESSAGES = st.binary(min_size=1, max_size=LIMIT).flatmap(
    lambda whole: st.integers(1, 4).map(
        lambda step: [(len(whole), at, whole[at : at + step]) for at in range(0, len(whole), step)]
    )
)
TRAFFIC = st.lists(st.one_of(MESSAGES, CHUNKS.map(lambda chunk: [chunk])), max_size=12)


def outcome(joiner: Reassembly | Reference, chunk: tuple[int, int, bytes]) -> object:
    try:
        return joiner.receive(*chunk)
    except ProtocolViolation:
        return ProtocolViolation


@settings(max_examples=300, deadline=None)
@given(TRAFFIC)
def test_it_does_what_the_reference_does(traffic: list[list[tuple[int, int, bytes]]]) -> None:
    reassembly, reference = Reassembly(LIMIT), Reference()
    for chunk in (chunk for message in traffic for chunk in message):
        assert outcome(reassembly, chunk) == outcome(reference, chunk)
        assert reassembly.held_bytes <= LIMIT
