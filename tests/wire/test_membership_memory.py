"""What is remembered of statements that have been decoded: little, whatever a member sends."""

from __future__ import annotations

import msgspec
import pytest

from zmesh.core.membership.member import Contact
from zmesh.core.membership.messages import Body
from zmesh.core.membership.statements import Alive
from zmesh.errors import ProtocolViolation
from zmesh.wire import membership
from zmesh.wire.membership import MAX_REMEMBERED, MAX_REMEMBERED_BYTES, decode_membership, encode_membership

ALIVE = Alive(Contact("desk", 5, ("10.0.0.5",), 7650, "m1"), 0, 1, b"h" * 16, b"certificate", b"s" * 64)


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    membership._remembered_alive.cache_clear()


def body_with(*statements: bytes) -> bytes:
    return b"\x02" + msgspec.msgpack.encode([40, 0, 7, [msgspec.Raw(statement) for statement in statements], []])


def statement(*more: object) -> bytes:
    """The statement, with fields that a later version, or a liar, has appended."""
    fields = msgspec.msgpack.decode(encode_membership(Body(0, 7, (ALIVE,)))[1:])[3][0]
    return msgspec.msgpack.encode([*fields, *more])


def remembered() -> int:
    return membership._remembered_alive.cache_info().currsize


def test_what_comes_again_is_one_object() -> None:
    first, again = (decode_membership(body_with(statement(), statement("later"))) for _ in range(2))
    assert isinstance(first, Body)
    assert isinstance(again, Body)
    assert first == again == Body(0, 7, (ALIVE, ALIVE))
    assert all(one is other for one, other in zip(first.alive, again.alive, strict=True))
    assert remembered() == 2
    assert membership._remembered_alive.cache_info().maxsize == MAX_REMEMBERED


def test_a_statement_that_is_larger_than_any_should_be_is_read_and_not_remembered() -> None:
    large = statement(bytes(1_000_000))
    assert decode_membership(body_with(large)) == Body(0, 7, (ALIVE,))
    assert remembered() == 0


def test_without_the_limit_a_member_could_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ablation."""
    monkeypatch.setattr(membership, "MAX_REMEMBERED_BYTES", 1 << 30)
    decode_membership(body_with(statement(bytes(1_000_000))))
    assert remembered() == 1


def test_the_statements_of_today_are_remembered() -> None:
    assert len(statement()) < MAX_REMEMBERED_BYTES / 4


def test_what_is_no_statement_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(ProtocolViolation):
            decode_membership(body_with(msgspec.msgpack.encode([1, 2])))
    assert remembered() == 0
