"""How one peer is heard: what it was asked for, and what it has confirmed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from zmesh.runtime.carrier import Subscription
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.topic import TopicFeed

__all__ = ["PeerSubscription"]

ASK_AGAIN_S: Final = 0.2  # without an answer to a subscription; doubled each time
ASK_AGAIN_MAX_S: Final = 2.0


@dataclass(slots=True)
class _Asked:
    """When a topic is to be subscribed to again if nobody answers."""

    wait_s: float
    again_at: float


class PeerSubscription:
    """Connected to the publish endpoint of one incarnation of a peer.

    ``received`` gets each frame; ``settle`` is handed to the feeds, which call it when handlers let go of messages.
    """

    def __init__(
        self,
        plane: DataPlane,
        node_id: str,
        incarnation: int,
        address: PeerAddress,
        received: Callable[[PeerSubscription, bytes], None],
        settle: Callable[[TopicFeed], None],
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.address = address
        self.feeds: dict[bytes, TopicFeed] = {}
        self.is_away = False
        self._asked: dict[bytes, _Asked] = {}
        self._plane = plane
        self._window_bytes = plane.window_bytes
        self._received = received
        self._settle = settle
        self._subscription = self._open(address)

    def _open(self, address: PeerAddress) -> Subscription:
        return self._plane.carrier.new_subscription(address, partial(self._received, self))

    def move(self, address: PeerAddress) -> None:
        """The peer is back, or can be heard at another address: feeds go on, and have what they miss repaired."""
        self.is_away = False
        if address == self.address:
            return
        self.address = address
        self._subscription.close()
        self._subscription = self._open(address)
        for topic in self.feeds:
            self._ask(topic)

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
            self._ask(topic)
        return feed

    def unsubscribe(self, topic: bytes) -> TopicFeed | None:
        """Hear it no more."""
        feed = self.feeds.pop(topic, None)
        if feed is not None:
            del self._asked[topic]
            self._subscription.unsubscribe(topic)
        return feed

    def ask_again(self, now: float) -> None:
        """Subscribe once more to what the peer has not confirmed: its answer may have been lost with a connection."""
        for topic, feed in self.feeds.items():
            asked = self._asked[topic]
            if not feed.is_confirmed and not self.is_away and now >= asked.again_at:
                self._subscription.subscribe(topic)
                asked.wait_s = min(asked.wait_s * 2, ASK_AGAIN_MAX_S)
                asked.again_at = now + asked.wait_s

    def _ask(self, topic: bytes) -> None:
        """For the first time at this address."""
        self._subscription.subscribe(topic)
        self._asked[topic] = _Asked(ASK_AGAIN_S, self._plane.clock() + ASK_AGAIN_S)

    def close(self) -> None:
        """Disconnect."""
        self.go_away()
        self._subscription.close()
