"""The receiving half: docs/spec/03-data-plane.md, sections 4 to 6, sentence by sentence."""

from __future__ import annotations

import pytest

from zmesh.core.delivery import ReceiveSession, Verdict
from zmesh.errors import InternalError, ProtocolViolation

WINDOW = 800
EIGHTH = WINDOW // 8


@pytest.fixture
def session() -> ReceiveSession:
    return ReceiveSession(WINDOW)


def take(session: ReceiveSession) -> tuple[int, int, bool]:
    return session.take_ack()


def test_the_expected_frame_is_delivered(session: ReceiveSession) -> None:
    assert session.receive(0.0, 1, 3, 10) is Verdict.DELIVER
    assert session.receive(0.0, 4, 1, 10) is Verdict.DELIVER
    assert session.expected == 5
    assert session.received_bytes == 20


def test_a_duplicate_is_dropped_and_acknowledged_at_once(session: ReceiveSession) -> None:
    session.receive(0.0, 1, 3, 10)
    take(session)
    assert session.receive(1.0, 1, 3, 10) is Verdict.DUPLICATE
    assert session.ack_due(1.0)
    assert take(session)[0] == 4
    assert session.received_bytes == 10


def test_a_gap_is_dropped_and_asks_for_a_rewind_at_once(session: ReceiveSession) -> None:
    assert session.receive(1.0, 2, 1, 10) is Verdict.GAP
    assert session.ack_due(1.0)
    assert take(session) == (1, WINDOW, True)
    assert session.received_bytes == 0


def test_a_rewind_is_asked_for_once_for_each_hole(session: ReceiveSession) -> None:
    session.receive(0.0, 2, 1, 10)
    assert take(session)[2]
    session.receive(0.0, 3, 1, 10)
    assert not session.ack_due(0.0)
    assert not take(session)[2]
    session.receive(0.0, 1, 1, 10)
    session.receive(0.0, 3, 1, 10)
    assert take(session) == (2, WINDOW, True)


def test_a_frame_divided_anew_is_refused(session: ReceiveSession) -> None:
    session.receive(0.0, 1, 3, 10)
    with pytest.raises(ProtocolViolation) as refused:
        session.receive(0.0, 3, 2, 10)
    assert refused.value.reason == "overlapping_frame"
    assert (session.expected, session.received_bytes) == (4, 10)


def test_an_ack_leaves_1_ms_later(session: ReceiveSession) -> None:
    session.receive(5.0, 1, 1, 10)
    assert not session.ack_due(5.0)
    assert session.next_deadline() == pytest.approx(5.001)
    assert session.ack_due(5.001)


def test_later_records_do_not_put_the_ack_off(session: ReceiveSession) -> None:
    session.receive(5.0, 1, 1, 10)
    session.receive(5.0009, 2, 1, 10)
    assert session.next_deadline() == pytest.approx(5.001)


def test_a_frame_the_other_way_carries_the_ack(session: ReceiveSession) -> None:
    session.receive(0.0, 1, 1, 10)
    assert take(session) == (2, WINDOW, False)
    assert session.next_deadline() is None


def test_an_eighth_of_the_window_owed_is_acknowledged_at_once(session: ReceiveSession) -> None:
    session.receive(0.0, 1, 1, EIGHTH)
    session.consumed(0.0, EIGHTH - 1)
    assert not session.ack_due(0.0)
    session.consumed(0.0, 1)
    assert session.ack_due(0.0)


def test_what_is_owed_counts_from_the_last_ack(session: ReceiveSession) -> None:
    for first in (1, 2):
        session.receive(0.0, first, 1, EIGHTH - 1)
        session.consumed(0.0, EIGHTH - 1)
        assert not session.ack_due(0.0)
        take(session)


def test_what_handlers_let_go_of_later_is_owed_too(session: ReceiveSession) -> None:
    session.receive(0.0, 1, 1, EIGHTH)
    take(session)
    session.consumed(1.0, EIGHTH - 2)
    assert session.next_deadline() == pytest.approx(1.001)
    session.consumed(1.0, 2)
    assert session.ack_due(1.0)


def test_the_limit_is_what_handlers_have_let_go_of_and_the_window(session: ReceiveSession) -> None:
    session.receive(0.0, 1, 1, 300)
    assert take(session)[1] == WINDOW
    session.consumed(0.0, 120)
    assert session.limit == WINDOW + 120
    assert take(session)[1] == WINDOW + 120


def test_nothing_is_let_go_of_that_has_not_come(session: ReceiveSession) -> None:
    session.receive(0.0, 1, 1, 10)
    with pytest.raises(InternalError, match="more consumed than received"):
        session.consumed(0.0, 11)


def test_a_probe_is_answered_at_once(session: ReceiveSession) -> None:
    session.receive(0.0, 1, 2, 10)
    take(session)
    session.probed(1.0, 3)
    assert session.ack_due(1.0)
    assert take(session) == (3, WINDOW, False)


def test_a_probe_that_tells_of_more_than_has_come_is_answered_with_a_rewind(session: ReceiveSession) -> None:
    session.probed(1.0, 2)
    assert take(session) == (1, WINDOW, True)


def test_each_probe_may_ask_again_for_the_same_hole(session: ReceiveSession) -> None:
    session.receive(0.0, 2, 1, 10)
    assert take(session)[2]
    session.probed(1.0, 3)
    assert take(session)[2]


def test_an_ack_that_somebody_waits_for_leaves_at_once(session: ReceiveSession) -> None:
    session.receive(0.0, 1, 1, 10)
    session.ack_wanted(0.0)
    assert session.ack_due(0.0)
