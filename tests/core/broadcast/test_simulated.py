"""Every record is delivered once and in order or counted as lost, and none is lost within the window."""

from __future__ import annotations

import re

import pytest

from zmesh.core.broadcast import Lost, PublisherEffect, SubscriberEffect, TopicPublisher, TopicSubscriber
from zmesh.core.broadcast.publisher import SubscriberLagging, TellSubscriber
from zmesh.testing import assert_holds
from zmesh.testing.scenario import draw_scenario
from zmesh.testing.subjects.broadcast import Published, PublisherProcess, SubscriberProcess
from zmesh.testing.subjects.broadcast_rules import BroadcastSubject
from zmesh.testing.trial import run_trial

SEEDS = 200  # within which each missing rule must be noticed


def failure_of(seed: int, publisher: type[TopicPublisher], subscriber: type[TopicSubscriber[Published]]) -> str:
    classes = {
        "publisher_class": type("Publisher", (PublisherProcess,), {"machine_class": publisher}),
        "subscriber_class": type("Subscriber", (SubscriberProcess,), {"machine_class": subscriber}),
    }
    subject = type("Ablated", (BroadcastSubject,), classes)
    return run_trial(draw_scenario(BroadcastSubject.settings, seed), subject).failure


@pytest.mark.parametrize("seed", range(25))
def test_every_record_is_delivered_once_or_counted_as_lost(seed: int) -> None:
    assert_holds(BroadcastSubject, seed)


# -- each rule of the protocol, taken away -----------------------------------------------------------------------------


class KnowsOnlySubscriptions(TopicPublisher):
    """Believes a note of leaving that came late."""

    def receive_position(self, now: float, node_id: str, position: int) -> None:
        if node_id in self._subscribers:
            super().receive_position(now, node_id, position)

    def receive_repair_request(self, now: float, node_id: str, position: int) -> tuple[PublisherEffect, ...]:
        return super().receive_repair_request(now, node_id, position) if node_id in self._subscribers else ()


class NeverRepairs(TopicPublisher):
    def receive_repair_request(self, now: float, node_id: str, position: int) -> tuple[PublisherEffect, ...]:
        return ()


class NeverSaysGone(TopicPublisher):
    def receive_repair_request(self, now: float, node_id: str, position: int) -> tuple[PublisherEffect, ...]:
        effects = super().receive_repair_request(now, node_id, position)
        return tuple(effect for effect in effects if not isinstance(effect, TellSubscriber))


class WaitsForEver(TopicPublisher):
    """Gives nobody up."""

    def handle_timeout(self, now: float) -> tuple[PublisherEffect, ...]:
        for subscriber in self._subscribers.values():
            subscriber.progress_at = now
        return super().handle_timeout(now)


class ForgetsTheLagging(TopicPublisher):
    """Tells those who have lost their say nothing more."""

    def handle_timeout(self, now: float) -> tuple[PublisherEffect, ...]:
        effects = super().handle_timeout(now)
        lagging = {name for name, subscriber in self._subscribers.items() if subscriber.lagging}
        return tuple(e for e in effects if isinstance(e, SubscriberLagging) or e.node_id not in lagging)


class CountsSilenceAsLag(TopicPublisher):
    """Does not start a subscriber's time anew when it had everything."""

    def published(self, now: float, count: int, data: bytes) -> None:
        before = {name: subscriber.progress_at for name, subscriber in self._subscribers.items()}
        super().published(now, count, data)
        for name, progress_at in before.items():
            self._subscribers[name].progress_at = progress_at


class ReleasesForTheFastest(TopicPublisher):
    @property
    def acked(self) -> int:
        return max((s.position for s in self._subscribers.values()), default=self.next_record)


class IgnoresGaps(TopicSubscriber[Published]):
    def receive(
        self, now: float, first: int, count: int, size: int, frame: Published
    ) -> list[SubscriberEffect[Published]]:
        self.expected = first
        return super().receive(now, first, count, size, frame)


class CountsNothing(TopicSubscriber[Published]):
    def receive_gone(self, now: float, position: int) -> list[SubscriberEffect[Published]]:
        return [effect for effect in super().receive_gone(now, position) if not isinstance(effect, Lost)]


class IgnoresTail(TopicSubscriber[Published]):
    def receive_position(self, now: float, position: int) -> None:
        super().receive_position(now, position if self.expected is None else min(self.expected, position))


class BeginsAtATail(TopicSubscriber[Published]):
    def receive_position(self, now: float, position: int) -> None:
        self.expected = position if self.expected is None else self.expected
        super().receive_position(now, position)


class BeginsAtAnyFrame(TopicSubscriber[Published]):
    def receive(
        self, now: float, first: int, count: int, size: int, frame: Published
    ) -> list[SubscriberEffect[Published]]:
        self.expected = first if self.expected is None else self.expected
        return super().receive(now, first, count, size, frame)


@pytest.mark.parametrize(
    ("publisher", "subscriber", "complaint"),
    [
        pytest.param(NeverRepairs, TopicSubscriber, "neither delivered nor counted", id="repair"),
        pytest.param(NeverSaysGone, TopicSubscriber, "neither delivered nor counted", id="gone"),
        pytest.param(WaitsForEver, TopicSubscriber, "a stopped subscriber stops the publisher", id="lag limit"),
        pytest.param(CountsSilenceAsLag, TopicSubscriber, "had everything and lost its say", id="silence is not lag"),
        pytest.param(ReleasesForTheFastest, TopicSubscriber, "lost within the window", id="hold for the slowest"),
        pytest.param(ForgetsTheLagging, TopicSubscriber, "neither delivered nor counted", id="the lagging"),
        pytest.param(KnowsOnlySubscriptions, TopicSubscriber, "neither delivered nor counted", id="joins again"),
        pytest.param(TopicPublisher, IgnoresGaps, "not exactly once and in order", id="gap check"),
        pytest.param(TopicPublisher, CountsNothing, "not counted|not exactly once", id="count of the lost"),
        pytest.param(TopicPublisher, IgnoresTail, "neither delivered nor counted", id="tail"),
        pytest.param(TopicPublisher, BeginsAtATail, "no claim to|nothing is lost", id="a tail is no start"),
        pytest.param(TopicPublisher, BeginsAtAnyFrame, "no claim to", id="a frame is no start"),
    ],
)
def test_the_simulation_notices_when_a_rule_is_missing(
    publisher: type[TopicPublisher], subscriber: type[TopicSubscriber[Published]], complaint: str
) -> None:
    found = next((failure for seed in range(SEEDS) if (failure := failure_of(seed, publisher, subscriber))), "")
    assert re.search(complaint, found), found
