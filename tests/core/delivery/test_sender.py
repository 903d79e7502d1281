"""The sending half: docs/spec/03-data-plane.md, sections 3, 5 and 6, sentence by sentence."""

from __future__ import annotations

import pytest

from zmesh.core.delivery import BeginAnew, HeldFrame, Resend, SendProbe, SendSession
from zmesh.errors import ProtocolViolation

CREDIT = 1000


@pytest.fixture
def session() -> SendSession:
    return SendSession(CREDIT)


def commit(session: SendSession, count: int = 1, size: int = 10, now: float = 0.0) -> HeldFrame:
    return session.commit(now, count, size, (b"frame",))


def test_records_are_numbered_from_1_without_holes(session: SendSession) -> None:
    assert [commit(session, count).first for count in (3, 1, 2)] == [1, 4, 5]
    assert session.next_record == 7


def test_a_frame_is_kept_as_it_is_until_it_is_acknowledged(session: SendSession) -> None:
    first, second = commit(session, 2), commit(session, 2)
    assert list(session.held) == [first, second]
    session.receive(0.0, 3, 0, False)
    assert list(session.held) == [second]
    assert second.parts == (b"frame",)
    session.receive(0.0, 5, 0, False)
    assert not session.held
    assert session.acked == 5


def test_one_ack_may_acknowledge_many_frames(session: SendSession) -> None:
    for _ in range(5):
        commit(session)
    session.receive(0.0, 5, 0, False)
    assert [frame.first for frame in session.held] == [5]


def test_an_old_ack_is_ignored(session: SendSession) -> None:
    commit(session, 3)
    session.receive(0.0, 4, 0, False)
    assert session.receive(0.0, 2, 0, False) == ()
    assert session.acked == 4


@pytest.mark.parametrize("ack", [5, 6, 1 << 63])
def test_an_ack_of_what_was_never_sent_is_refused(session: SendSession, ack: int) -> None:
    commit(session, 3)
    with pytest.raises(ProtocolViolation, match="acknowledges") as refused:
        session.receive(0.0, ack, 0, False)
    assert refused.value.reason == "impossible_ack"
    assert session.acked == 1
    assert len(session.held) == 1


def test_an_ack_inside_a_frame_is_refused_and_leaves_a_session_that_works(session: SendSession) -> None:
    commit(session, 2)
    second = commit(session, 3)
    with pytest.raises(ProtocolViolation, match="inside the frame") as refused:
        session.receive(0.0, 4, 0, False)
    assert refused.value.reason == "impossible_ack"
    assert (session.acked, list(session.held)) == (3, [second])
    session.receive(0.0, 6, 0, False)
    assert (session.acked, list(session.held)) == (6, [])


def test_credit_is_an_absolute_offset(session: SendSession) -> None:
    commit(session, size=400)
    assert session.room_bytes == 600
    session.receive(0.0, 2, 1300, False)
    assert session.room_bytes == 900


def test_the_last_frame_and_answers_may_go_beyond_credit(session: SendSession) -> None:
    commit(session, size=900)
    commit(session, size=500)
    assert session.room_bytes == -400


def test_a_lower_limit_is_an_old_one(session: SendSession) -> None:
    session.receive(0.0, 1, 5000, False)
    session.receive(0.0, 1, 3000, False)
    assert session.limit == 5000


def test_acknowledging_gives_no_credit_of_its_own(session: SendSession) -> None:
    commit(session, size=400)
    session.receive(0.0, 2, 0, False)
    assert session.room_bytes == 600


def test_everything_held_is_sent_again_on_a_new_connection(session: SendSession) -> None:
    frames = [commit(session), commit(session), commit(session)]
    session.receive(0.0, 2, 0, False)
    assert session.connected(1.0) == (Resend(tuple(frames[1:])),)


def test_a_new_connection_needs_nothing_where_nothing_is_held(session: SendSession) -> None:
    assert session.connected(0.0) == ()
    assert session.next_deadline() is None


def test_a_rewind_at_the_last_ack_sends_everything_held_again(session: SendSession) -> None:
    frames = [commit(session), commit(session)]
    assert session.receive(0.0, 1, 0, True) == (Resend(tuple(frames)),)
    assert session.receive(0.0, 2, 0, True) == (Resend((frames[1],)),)


def test_an_old_rewind_is_ignored(session: SendSession) -> None:
    for _ in range(3):
        commit(session)
    session.receive(0.0, 3, 0, False)
    assert session.receive(0.0, 2, 0, True) == ()


def test_a_rewind_to_the_beginning_means_another_process(session: SendSession) -> None:
    commit(session)
    commit(session)
    session.receive(0.0, 2, 0, False)
    assert session.receive(0.0, 1, 0, True) == (BeginAnew(),)


def test_a_rewind_with_nothing_held_does_nothing(session: SendSession) -> None:
    commit(session)
    assert session.receive(0.0, 2, 0, True) == ()


def test_a_stalled_ack_is_probed_after_200_ms_then_doubling_to_3_s(session: SendSession) -> None:
    commit(session)
    probed = []
    now = 0.0
    while len(probed) < 7:
        deadline = session.next_deadline()
        assert deadline is not None
        assert session.handle_timeout(deadline - 0.001) == ()
        now = deadline
        assert session.handle_timeout(now) == (SendProbe(),)
        probed.append(now)
    waits = [later - earlier for earlier, later in zip([0.0, *probed], probed, strict=False)]
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0])


def test_progress_makes_the_wait_200_ms_again(session: SendSession) -> None:
    commit(session)
    commit(session)
    for _ in range(4):
        now = session.next_deadline()
        assert now is not None
        session.handle_timeout(now)
    session.receive(10.0, 2, 0, False)
    assert session.next_deadline() == pytest.approx(10.2)


def test_an_ack_without_progress_does_not_put_the_probe_off(session: SendSession) -> None:
    commit(session)
    session.receive(0.1, 1, 2000, False)
    assert session.next_deadline() == pytest.approx(0.2)


def test_later_frames_do_not_put_the_probe_off(session: SendSession) -> None:
    commit(session, now=0.0)
    commit(session, now=0.15)
    assert session.next_deadline() == pytest.approx(0.2)


def test_nothing_held_needs_no_probe(session: SendSession) -> None:
    assert session.next_deadline() is None
    commit(session)
    session.receive(0.1, 2, 0, False)
    assert session.next_deadline() is None
    assert session.handle_timeout(100.0) == ()


def test_who_waits_for_credit_with_nothing_held_probes_after_200_ms(session: SendSession) -> None:
    session.want_probe(5.0)
    assert session.handle_timeout(5.1) == ()
    assert session.handle_timeout(5.2) == (SendProbe(),)
    assert session.next_deadline() is None
    session.want_probe(6.0)
    assert session.next_deadline() == pytest.approx(6.4)


def test_wanting_a_probe_does_not_put_off_the_one_that_is_due(session: SendSession) -> None:
    commit(session)
    session.want_probe(0.15)
    assert session.next_deadline() == pytest.approx(0.2)
