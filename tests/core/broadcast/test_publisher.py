"""The publishing half: docs/spec/05-broadcast.md, section 4, sentence by sentence."""

from __future__ import annotations

import pytest

from zmesh.core.broadcast import SendRepair, SubscriberLagging, TellSubscriber, TopicPublisher
from zmesh.core.broadcast.publisher import LAG_LIMIT_S, MAX_HELD_FRAMES, Note

WINDOW = 1000


@pytest.fixture
def publisher() -> TopicPublisher:
    return TopicPublisher(WINDOW)


def publish(publisher: TopicPublisher, count: int = 1, data: bytes = b"frame", now: float = 0.0) -> None:
    publisher.published(now, count, data)


def told(publisher: TopicPublisher, until: float) -> list[tuple[float, object]]:
    """What a driver sends that calls exactly when it is told to."""
    effects = []
    while (at := publisher.next_deadline()) is not None and at <= until:
        effects += [(round(at, 3), effect) for effect in publisher.handle_timeout(at)]
    return effects


def test_records_are_numbered_from_1_even_if_nobody_hears_them(publisher: TopicPublisher) -> None:
    publish(publisher, 3)
    assert publisher.next_record == 4
    assert publisher.held_bytes == 0
    assert not publisher.has_subscribers


def test_a_subscription_is_answered_with_the_next_number(publisher: TopicPublisher) -> None:
    publish(publisher, 3)
    assert publisher.subscribe(0.0, "a") == (TellSubscriber("a", Note.SUBSCRIBED, 4),)
    assert publisher.has_subscribers
    publish(publisher, 2)
    assert publisher.subscribe(0.0, "a") == (TellSubscriber("a", Note.SUBSCRIBED, 6),)


def test_who_is_new_has_everything_below_its_position(publisher: TopicPublisher) -> None:
    publish(publisher, 3)
    publisher.subscribe(0.0, "a")
    assert publisher.acked == 4
    assert publisher.next_deadline() is None


def test_a_frame_is_held_until_the_slowest_has_it(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publisher.subscribe(0.0, "b")
    publish(publisher, 2, b"12345")
    publish(publisher, 1, b"123")
    publisher.receive_position(0.0, "a", 4)
    assert (publisher.held_bytes, publisher.acked) == (8, 1)
    publisher.receive_position(0.0, "b", 3)
    assert (publisher.held_bytes, publisher.acked) == (3, 3)
    publisher.receive_position(0.0, "b", 4)
    assert (publisher.held_bytes, publisher.acked) == (0, 4)


def test_a_position_inside_a_frame_holds_the_frame(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, 3)
    publisher.receive_position(0.0, "a", 2)
    assert publisher.held_bytes == 5


def test_there_is_room_for_a_window(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, data=bytes(WINDOW - 1))
    assert publisher.room_bytes == 1
    publish(publisher, data=bytes(10))
    assert publisher.room_bytes == -9
    publisher.receive_position(0.0, "a", 2)
    assert publisher.room_bytes == WINDOW - 10


def test_there_is_room_for_so_many_frames(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    for _ in range(MAX_HELD_FRAMES - 1):
        publish(publisher, data=b"")
    assert publisher.room_bytes == WINDOW
    publish(publisher, data=b"")
    assert publisher.room_bytes == 0


@pytest.mark.parametrize("position", [0, 1, 2, 5, 1 << 62])
def test_a_position_that_is_old_or_beyond_what_is_published_is_ignored(
    publisher: TopicPublisher, position: int
) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, 1)
    publisher.receive_position(0.0, "a", 2)
    publish(publisher, 2)
    publisher.receive_position(0.0, "a", position)
    assert publisher.acked == 2


def test_a_repair_is_every_held_frame_from_there_on(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    for data in (b"1", b"2", b"3"):
        publish(publisher, 2, data)
    assert publisher.receive_repair_request(0.0, "a", 3) == (SendRepair("a", (b"2", b"3")),)
    assert publisher.receive_repair_request(0.0, "a", 1) == (SendRepair("a", (b"1", b"2", b"3")),)


def test_a_repair_of_what_was_never_published_is_nothing(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, 2)
    assert publisher.receive_repair_request(0.0, "a", 3) == ()
    assert publisher.receive_repair_request(0.0, "a", 1 << 62) == ()


def test_what_is_no_longer_held_is_gone(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, 2, b"1")
    publish(publisher, 2, b"2")
    publisher.receive_position(0.0, "a", 3)
    gone = TellSubscriber("a", Note.GONE, 3)
    assert publisher.receive_repair_request(0.0, "a", 1) == (gone, SendRepair("a", (b"2",)))


def test_where_nothing_is_held_everything_is_gone(publisher: TopicPublisher) -> None:
    publish(publisher, 4)
    publisher.subscribe(0.0, "a")
    assert publisher.receive_repair_request(0.0, "a", 2) == (TellSubscriber("a", Note.GONE, 5), SendRepair("a", ()))


def test_who_is_behind_is_reminded_and_in_the_end_given_up(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, 3)
    tail = TellSubscriber("a", Note.TAIL, 4)
    assert told(publisher, 10.0) == [
        (0.2, tail),
        (0.6, tail),
        (1.4, tail),
        (3.0, tail),
        (5.0, SubscriberLagging("a")),
        (5.0, tail),
        (7.0, tail),
        (9.0, tail),
    ]


def test_progress_starts_the_time_anew(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, 3)
    told(publisher, 4.0)
    publisher.receive_position(4.0, "a", 2)
    assert [at for at, effect in told(publisher, 9.5) if isinstance(effect, SubscriberLagging)] == [9.0]


def test_a_time_of_silence_is_nobodys_fault(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, 1, now=100.0)
    assert told(publisher, 100.0 + LAG_LIMIT_S - 0.1)[0][0] == 100.2
    assert publisher.acked == 1


def test_who_had_everything_gets_its_time_even_while_another_is_behind(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publisher.subscribe(0.0, "b")
    publish(publisher, 10)
    publisher.receive_position(0.0, "a", 11)
    for second in range(1, 9):
        publisher.receive_position(float(second), "b", 1 + second)
        told(publisher, float(second))
    publish(publisher, 1, now=8.0)
    assert SubscriberLagging("a") not in publisher.handle_timeout(8.1)


def test_who_has_lost_its_say_stops_nobody(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "stopped")
    publisher.subscribe(0.0, "well")
    publish(publisher, 1, bytes(WINDOW))
    publisher.receive_position(0.1, "well", 2)
    assert publisher.room_bytes == 0
    told(publisher, LAG_LIMIT_S)
    assert (publisher.room_bytes, publisher.acked) == (WINDOW, 2)
    publish(publisher, 1, b"next", now=6.0)
    publisher.receive_position(6.1, "well", 3)
    assert publisher.held_bytes == 0


def test_frames_that_nobody_has_a_say_on_are_not_held(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "stopped")
    publish(publisher, 1, bytes(WINDOW))
    told(publisher, LAG_LIMIT_S)
    for _ in range(5):
        publish(publisher, 1, bytes(WINDOW), now=6.0)
    assert publisher.room_bytes == WINDOW


def test_progress_gives_it_its_say_again(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, 3, b"abc")
    told(publisher, LAG_LIMIT_S)
    publisher.receive_position(8.0, "a", 3)
    assert publisher.acked == 3
    publish(publisher, 1, b"next", now=8.0)
    assert publisher.held_bytes == 4


def test_who_has_left_is_waited_for_no_more(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publisher.subscribe(0.0, "b")
    publish(publisher, 1)
    publisher.receive_position(0.0, "a", 2)
    publisher.remove("b")
    assert publisher.held_bytes == 0
    publisher.remove("a")
    assert not publisher.has_subscribers
    publisher.remove("a")


def test_a_broken_connection_changes_nothing(publisher: TopicPublisher) -> None:
    publisher.subscribe(0.0, "a")
    publish(publisher, 2)
    publisher.subscribe(1.0, "a")
    assert (publisher.acked, publisher.held_bytes) == (1, 5)


@pytest.mark.parametrize("speak", ["position", "repair"])
def test_who_speaks_of_the_topic_hears_it(publisher: TopicPublisher, speak: str) -> None:
    publisher.subscribe(0.0, "b")
    publish(publisher, 3, b"abc")
    if speak == "position":
        publisher.receive_position(1.0, "a", 2)
    else:
        assert publisher.receive_repair_request(1.0, "a", 2) == (SendRepair("a", ()),)
    publisher.remove("b")
    assert publisher.acked == 2
    assert publisher.held_bytes == 3


def test_a_stranger_cannot_be_ahead_of_what_is_published(publisher: TopicPublisher) -> None:
    publisher.receive_position(1.0, "a", 1 << 62)
    assert publisher.acked == 1
