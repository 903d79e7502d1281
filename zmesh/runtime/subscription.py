"""How one peer is heard: what it was asked for, and what it has confirmed.

The groups that agents here are in come first and the broadcast, which every node hears, after the peer has confirmed
them: a publisher that waits for its subscribers before its first message waits for the subscription to the broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from zmesh.runtime.carrier import Subscription
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.topic import BROADCAST_TOPIC, TopicFeed

__all__ = ["PeerSubscription"]

ASK_AGAIN_S: Final = 0.2  # without an answer to a subscription; doubled each time
ASK_AGAIN_MAX_S: Final = 2.0
GROUPS_FIRST_S: Final = 1.0  # a peer that has not confirmed the groups by then may be unable to: it has too many topics


@dataclass(slots=True)
class _Asked:
    """When a topic is to be subscribed to again if nobody answers."""

    wait_s: float
    again_at: float


class PeerSubscription:
    """Connected to the publish endpoint of one incarnation of a peer, from when its address is known.

    ``received`` gets each frame; ``settle`` is handed to the feeds, which call it when handlers let go of messages.
    """

    def __init__(
        self,
        plane: DataPlane,
        node_id: str,
        incarnation: int,
        address: PeerAddress | None,
        received: Callable[[PeerSubscription, bytes], None],
        settle: Callable[[TopicFeed], None],
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.address: PeerAddress | None = None
        self.feeds: dict[bytes, TopicFeed] = {}
        self.is_away = False
        self._asked: dict[bytes, _Asked] = {}
        self._plane = plane
        self._window_bytes = plane.window_bytes
        self._received = received
        self._settle = settle
        self._subscription: Subscription | None = None
        self._groups_first_until = 0.0
        self.move(address)

    def move(self, address: PeerAddress | None) -> None:
        """The peer is back, or can be heard at another address: feeds go on, and have what they miss repaired."""
        self.is_away = False
        if address is None or address == self.address:
            return
        if self._subscription is not None:
            self._subscription.close()
        self.address = address
        self._subscription = self._plane.carrier.new_subscription(address, partial(self._received, self))
        self._groups_first_until = self._plane.clock() + GROUPS_FIRST_S
        self._asked.clear()
        for topic in self.feeds:
            if topic != BROADCAST_TOPIC:
                self._ask(topic)
        self._ask_for_the_broadcast()

    def go_away(self) -> None:
        """The peer is dead or has left: nobody need wait for its answers."""
        self.is_away = True
        for feed in self.feeds.values():
            feed.settled.set()

    def subscribe(self, topic: bytes) -> TopicFeed:
        """Hear a topic of this peer."""
        feed = self.feeds.get(topic)
        if feed is None:
            window_bytes, clock = self._window_bytes, self._plane.clock
            feed = TopicFeed(self.node_id, self.incarnation, topic, window_bytes, self._settle, clock)
            self.feeds[topic] = feed
            if topic == BROADCAST_TOPIC:
                self._ask_for_the_broadcast()
            else:
                self._ask(topic)
        return feed

    def unsubscribe(self, topic: bytes) -> TopicFeed | None:
        """Hear it no more."""
        feed = self.feeds.pop(topic, None)
        if feed is not None and self._subscription is not None:
            del self._asked[topic]
            self._subscription.unsubscribe(topic)
        return feed

    def confirmed(self, topic: bytes) -> None:
        """The peer has answered the subscription."""
        self.feeds[topic].confirm()
        self._ask_for_the_broadcast()

    def tick(self, now: float) -> None:
        """Look for the peer; subscribe once more to what it has not confirmed: its answer may have been lost."""
        if self.is_away:
            return
        if self._subscription is None:
            self._plane.ways.want(self.node_id)
            return
        self._ask_for_the_broadcast()
        for topic, asked in self._asked.items():
            if not self.feeds[topic].is_confirmed and now >= asked.again_at:
                self._subscription.subscribe(topic)
                asked.wait_s = min(asked.wait_s * 2, ASK_AGAIN_MAX_S)
                asked.again_at = now + asked.wait_s

    def _ask_for_the_broadcast(self) -> None:
        """Once the groups are confirmed, or it has been waited for that."""
        if BROADCAST_TOPIC in self._asked or BROADCAST_TOPIC not in self.feeds:
            return
        waits = any(not feed.is_confirmed for topic, feed in self.feeds.items() if topic != BROADCAST_TOPIC)
        if not waits or self._plane.clock() >= self._groups_first_until:
            self._ask(BROADCAST_TOPIC)

    def _ask(self, topic: bytes) -> None:
        """For the first time at this address."""
        if self._subscription is not None:
            self._subscription.subscribe(topic)
            self._asked[topic] = _Asked(ASK_AGAIN_S, self._plane.clock() + ASK_AGAIN_S)

    def close(self) -> None:
        """Disconnect."""
        self.go_away()
        if self._subscription is not None:
            self._subscription.close()
