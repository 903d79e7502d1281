"""The subscribing half: docs/spec/05-broadcast.md, section 5, sentence by sentence."""

from __future__ import annotations

import pytest

from zmesh.core.broadcast import Deliver, Lost, TellPublisher, TopicSubscriber
from zmesh.core.broadcast.subscriber import MAX_PARKED_FRAMES

WINDOW = 1600
SIXTEENTH = WINDOW // 16


@pytest.fixture
def subscriber() -> TopicSubscriber[str]:
    return TopicSubscriber(WINDOW)


@pytest.fixture
def started() -> TopicSubscriber[str]:
    """Has had record 1, and said so."""
    subscriber: TopicSubscriber[str] = TopicSubscriber(WINDOW)
    subscriber.receive_subscribed(0.0, 1)
    subscriber.receive(0.0, 1, 1, 1, "one")
    subscriber.handle_timeout(1.0)
    return subscriber


def test_it_starts_where_the_publisher_says(subscriber: TopicSubscriber[str]) -> None:
    assert subscriber.receive_subscribed(0.0, 7) == []
    assert subscriber.expected == 7
    assert subscriber.receive(0.0, 7, 2, 1, "seven") == [Deliver("seven")]
    assert subscriber.expected == 9


def test_frames_that_come_first_wait_for_that(subscriber: TopicSubscriber[str]) -> None:
    assert subscriber.receive(0.0, 5, 1, 1, "five") == []
    assert subscriber.receive_subscribed(0.0, 5) == [Deliver("five")]
    assert subscriber.expected == 6


def test_what_was_heard_right_before_the_start_is_delivered_and_what_has_a_hole_behind_it_is_not(
    subscriber: TopicSubscriber[str],
) -> None:
    for first, count in ((1, 1), (3, 2), (5, 1), (6, 1)):
        subscriber.receive(0.0, first, count, 1, str(first))
    assert subscriber.receive_subscribed(0.0, 6) == [Deliver("3"), Deliver("5"), Deliver("6")]
    assert subscriber.expected == 7


def test_a_tail_or_a_frame_of_a_subscription_before_does_not_say_where_to_begin(
    subscriber: TopicSubscriber[str],
) -> None:
    subscriber.receive_position(0.0, 4)
    subscriber.receive(0.0, 2, 1, 1, "two")
    assert subscriber.expected is None
    assert subscriber.next_deadline() is None
    assert subscriber.receive_subscribed(1.0, 9) == []
    assert subscriber.expected == 9


def test_a_frame_behind_a_gap_waits_for_what_is_missing(started: TopicSubscriber[str]) -> None:
    assert started.receive(1.0, 4, 1, 1, "four") == []
    assert started.receive(1.0, 3, 1, 1, "three") == []
    assert started.receive(1.0, 2, 1, 1, "two") == [Deliver("two"), Deliver("three"), Deliver("four")]
    assert started.expected == 5


def test_what_it_had_is_dropped(started: TopicSubscriber[str]) -> None:
    assert started.receive(1.0, 1, 1, 1, "again") == []
    assert started.expected == 2


def test_only_so_many_frames_are_parked(started: TopicSubscriber[str]) -> None:
    for first in range(3, 3 + MAX_PARKED_FRAMES + 5):
        started.receive(1.0, first, 1, 1, str(first))
    assert len(started.receive(1.0, 2, 1, 1, "two")) == 1 + MAX_PARKED_FRAMES
    assert started.expected == 3 + MAX_PARKED_FRAMES


def test_only_a_window_of_bytes_is_parked(started: TopicSubscriber[str]) -> None:
    for first in range(3, 9):
        started.receive(1.0, first, 1, WINDOW // 3, str(first))
    assert [effect for effect in started.receive(1.0, 2, 1, 1, "two") if isinstance(effect, Deliver)] == [
        Deliver(name) for name in ("two", "3", "4", "5")
    ]
    started.receive(1.0, 7, 1, WINDOW // 3, "7")
    assert started.receive(1.0, 6, 1, 1, "6") == [Deliver("6"), Deliver("7")]


def test_a_frame_parked_twice_counts_once(started: TopicSubscriber[str]) -> None:
    for _ in range(5):
        started.receive(1.0, 3, 1, WINDOW // 2, "three")
    started.receive(1.0, 4, 1, WINDOW // 2, "four")
    assert len(started.receive(1.0, 2, 1, 1, "two")) == 3


def test_a_parked_frame_that_overlaps_is_dropped(started: TopicSubscriber[str]) -> None:
    started.receive(1.0, 4, 1, 1, "inside")
    assert started.receive(1.0, 2, 5, 1, "two to six") == [Deliver("two to six")]
    assert started.expected == 7
    assert started.receive_gone(1.0, 9) == [Lost(2)]


def test_a_gap_that_lasts_50_ms_is_asked_for_and_again_every_500(started: TopicSubscriber[str]) -> None:
    started.receive(10.0, 4, 1, 1, "four")
    asked = []
    while len(asked) < 3:
        at = started.next_deadline()
        assert at is not None
        asked += [(round(at, 3), effect) for effect in started.handle_timeout(at)]
    repair = TellPublisher(2, repair=True)
    assert asked == [(10.05, repair), (10.55, repair), (11.05, repair)]


def test_a_gap_that_closes_by_itself_is_not_asked_for(started: TopicSubscriber[str]) -> None:
    started.receive(10.0, 3, 1, 1, "three")
    started.receive(10.04, 2, 1, 1, "two")
    assert started.handle_timeout(10.06) == [TellPublisher(4, repair=False)]
    assert started.next_deadline() is None


def test_the_tail_shows_a_gap_at_the_end(started: TopicSubscriber[str]) -> None:
    started.receive_position(10.0, 3)
    assert started.handle_timeout(10.0) == [TellPublisher(2, repair=False)]
    assert started.next_deadline() == pytest.approx(10.05)
    assert started.handle_timeout(10.05) == [TellPublisher(2, repair=True)]


def test_what_is_gone_is_counted(started: TopicSubscriber[str]) -> None:
    assert started.receive_gone(1.0, 6) == [Lost(4)]
    assert started.expected == 6


def test_what_is_parked_is_not_gone(started: TopicSubscriber[str]) -> None:
    started.receive(1.0, 4, 2, 1, "four")
    started.receive(1.0, 8, 1, 1, "eight")
    started.receive(1.0, 10, 1, 1, "ten")
    assert started.receive_gone(1.0, 8) == [Lost(2), Deliver("four"), Lost(2), Deliver("eight")]
    assert started.expected == 9
    assert started.receive_gone(1.0, 10) == [Lost(1), Deliver("ten")]


def test_what_is_gone_below_what_it_has_is_nothing(started: TopicSubscriber[str]) -> None:
    assert started.receive_gone(1.0, 2) == []
    assert started.expected == 2


def test_before_it_knows_where_it_is_nothing_can_be_gone(subscriber: TopicSubscriber[str]) -> None:
    assert subscriber.receive_gone(1.0, 10) == []
    assert subscriber.handle_timeout(1.0) == []
    assert subscriber.next_deadline() is None


def test_a_position_is_told_2_ms_after_progress(started: TopicSubscriber[str]) -> None:
    started.receive(10.0, 2, 1, 1, "two")
    started.receive(10.001, 3, 1, 1, "three")
    assert started.handle_timeout(10.001) == []
    assert started.next_deadline() == pytest.approx(10.002)
    assert started.handle_timeout(10.002) == [TellPublisher(4, repair=False)]
    assert started.next_deadline() is None


def test_a_position_is_told_at_once_after_a_sixteenth_of_the_window(started: TopicSubscriber[str]) -> None:
    started.receive(10.0, 2, 1, SIXTEENTH - 1, "two")
    assert started.handle_timeout(10.0) == []
    started.receive(10.0, 3, 1, 1, "three")
    assert started.handle_timeout(10.0) == [TellPublisher(4, repair=False)]


def test_a_position_is_told_at_once_when_the_publisher_asks(started: TopicSubscriber[str]) -> None:
    started.receive_position(10.0, 2)
    assert started.handle_timeout(10.0) == [TellPublisher(2, repair=False)]


def test_while_handlers_hold_half_of_the_window_no_position_is_told(started: TopicSubscriber[str]) -> None:
    started.receive(10.0, 2, 1, WINDOW // 2, "two")
    started.held_bytes += WINDOW // 2
    assert started.handle_timeout(20.0) == []
    assert started.next_deadline() is None
    started.receive_position(20.0, 3)
    assert started.handle_timeout(21.0) == []
    started.released(30.0, 1)
    assert started.handle_timeout(30.0) == [TellPublisher(3, repair=False)]


def test_letting_go_is_a_reason_to_tell(started: TopicSubscriber[str]) -> None:
    started.held_bytes = 10
    started.released(30.0, 10)
    assert started.handle_timeout(30.0) == [TellPublisher(2, repair=False)]


def test_a_repair_is_asked_for_even_while_handlers_hold_half_of_the_window(started: TopicSubscriber[str]) -> None:
    started.held_bytes = WINDOW
    started.receive(10.0, 3, 1, 1, "three")
    assert started.handle_timeout(10.05) == [TellPublisher(2, repair=True)]
