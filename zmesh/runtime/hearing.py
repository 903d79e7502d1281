"""What is heard here of what peers publish: one subscription a peer that is heard, one feed a topic of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from zmesh.core.broadcast import Deliver, Lost, SubscriberEffect
from zmesh.errors import ProtocolViolation
from zmesh.runtime.audience import Audience
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.subscription import PeerSubscription
from zmesh.runtime.topic import Heard, TopicFeed
from zmesh.wire.data import TopicNote, TopicNoteKind, decode_topic_frame

__all__ = ["Hearing"]

logger = logging.getLogger("zmesh.publish")

SETTLE_S: Final = 0.002


class Hearing:
    """The subscriptions to peers."""

    def __init__(self, plane: DataPlane, audience: Audience) -> None:
        self._plane = plane
        self._audience = audience
        self._peers: dict[str, PeerSubscription] = {}
        self._unsettled: dict[TopicFeed, None] = {}
        self._settle_timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def close(self) -> None:
        """Stop."""
        self._is_closed = True
        if self._settle_timer is not None:
            self._settle_timer.cancel()
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()

    # -- peers -------------------------------------------------------------------------------------------------------

    def hears(self, node_id: str, incarnation: int) -> bool:
        """Whether that incarnation of a peer is heard, or was until it went away."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.incarnation == incarnation

    def connect(self, node_id: str, incarnation: int, address: PeerAddress | None) -> None:
        """Hear an incarnation of a peer at its publish endpoint; without an address, once one is found."""
        peer = self._peers.get(node_id)
        if peer is not None and peer.incarnation == incarnation:
            peer.move(address)
            return
        self.disconnect(node_id)
        peer = self._peers[node_id] = PeerSubscription(
            self._plane, node_id, incarnation, address, self.receive, self.settle_later
        )
        for topic in reversed(self._audience.topics):  # groups before the broadcast
            peer.subscribe(topic)

    def silence(self, node_id: str) -> None:
        """The peer is dead or has left: nobody waits for its word any more. ``connect`` takes that back."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.go_away()

    def disconnect(self, node_id: str) -> None:
        """The peer is gone for good, or has a new incarnation."""
        peer = self._peers.pop(node_id, None)
        if peer is not None:
            peer.close()
            for feed in peer.feeds.values():
                self._unsettled.pop(feed, None)

    # -- groups ------------------------------------------------------------------------------------------------------

    def subscribe(self, topic: bytes) -> list[TopicFeed]:
        """Hear a topic; the feeds whose ``settled`` tells when that is so."""
        feeds = [(peer, peer.subscribe(topic)) for peer in self._peers.values()]
        return [feed for peer, feed in feeds if not peer.is_away]

    def unsubscribe(self, topic: bytes) -> None:
        """Hear it no more."""
        for peer in self._peers.values():
            feed = peer.unsubscribe(topic)
            if feed is not None:
                self._tell(feed, TopicNoteKind.UNSUBSCRIBED, 0)

    # -- frames and notes --------------------------------------------------------------------------------------------

    def receive(self, peer: PeerSubscription, data: bytes) -> None:
        """A frame of a peer's publish socket, or a repaired one."""
        end = data.find(b"\0") + 1
        feed = peer.feeds.get(data[:end])
        if feed is None:
            return  # unsubscribed a moment ago
        try:
            frame = decode_topic_frame(memoryview(data)[end:])
        except ProtocolViolation as violation:
            self._plane.refuse(peer.node_id, violation)
            return
        statistics = self._plane.statistics
        statistics.frames_received += 1
        statistics.bytes_received += len(data)
        if frame.incarnation != peer.incarnation:
            statistics.dropped_stale += 1
            return
        now = self._plane.clock()
        count = sum(len(run.payloads) for run in frame.runs)
        heard = Heard(frame.runs, frame.first, frame.timestamp, len(data))
        self._apply(feed, feed.subscriber.receive(now, frame.first, count, len(data), heard))
        self._settle(feed, now)

    def receive_repairs(self, node_id: str, repairs: Iterable[bytes]) -> None:
        """Frames that a peer sends again, to this node alone."""
        peer = self._peers.get(node_id)
        if peer is not None:
            for data in repairs:
                self.receive(peer, data)

    def receive_note(self, node_id: str, note: TopicNote) -> None:
        """What a publisher says of a topic: SUBSCRIBED, TAIL or GONE."""
        peer = self._peers.get(node_id)
        if peer is None or peer.incarnation != note.incarnation:
            return
        feed = peer.feeds.get(note.topic)
        if feed is None:
            # It was left, and the word of it got lost: the publisher must not go on waiting for this node.
            link = self._plane.links.link_for(node_id)
            link.add_note(TopicNote(TopicNoteKind.UNSUBSCRIBED, note.topic, note.incarnation, 0))
            return
        now = self._plane.clock()
        if note.kind is TopicNoteKind.GONE:
            self._apply(feed, feed.subscriber.receive_gone(now, note.position))
        elif note.kind is TopicNoteKind.SUBSCRIBED:
            self._apply(feed, feed.subscriber.receive_subscribed(now, note.position))
            feed.confirm()
            peer.confirmed(note.topic)
        else:
            feed.subscriber.receive_position(now, note.position)
        self._settle(feed, now)

    def _apply(self, feed: TopicFeed, effects: Iterable[SubscriberEffect[Heard]]) -> None:
        for effect in effects:
            if isinstance(effect, Deliver):
                feed.subscriber.held_bytes += self._audience.deliver(feed, feed.origin, effect.frame)
            elif isinstance(effect, Lost):
                self._plane.statistics.lost_topic_gap += effect.count
                logger.warning(
                    "lost %d messages of node %s on %r: lagged behind", effect.count, feed.node_id, feed.topic
                )
            else:
                self._tell(feed, TopicNoteKind.REPAIR if effect.repair else TopicNoteKind.POSITION, effect.position)

    def _tell(self, feed: TopicFeed, kind: TopicNoteKind, position: int) -> None:
        note = TopicNote(kind, feed.topic, feed.incarnation, position)
        self._plane.links.link_for(feed.node_id).add_note(note)

    # -- time --------------------------------------------------------------------------------------------------------

    def settle_later(self, feed: TopicFeed) -> None:
        """See to it that the feed's publisher hears of its position soon."""
        self._unsettled[feed] = None
        if self._settle_timer is None and not self._is_closed:
            self._settle_timer = self._plane.loop.call_later(SETTLE_S, self._settle_all)

    def _settle_all(self) -> None:
        self._settle_timer = None
        unsettled, self._unsettled = self._unsettled, {}
        now = self._plane.clock()
        for feed in unsettled:
            self._settle(feed, now)

    def _settle(self, feed: TopicFeed, now: float) -> None:
        self._apply(feed, feed.subscriber.handle_timeout(now))
        if feed.subscriber.next_deadline() is not None:
            self.settle_later(feed)

    def tick(self, now: float) -> None:
        """Look for those that are to be heard, and ask those again that have not confirmed a subscription."""
        for peer in self._peers.values():
            peer.tick(now)
