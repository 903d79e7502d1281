"""Broadcast and groups: the XPUB this node publishes on, and what its peers publish."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from time import monotonic
from typing import Final

import zmq

from zmesh.core.broadcast import (
    Deliver,
    Lost,
    PublisherEffect,
    SendRepair,
    SubscriberEffect,
    SubscriberLagging,
    TellSubscriber,
)
from zmesh.errors import NetworkError, ProtocolViolation
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.link import Link
from zmesh.runtime.mailbox import Batch
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.received import Origin, published_messages
from zmesh.runtime.sockets import NOBLOCK, has_input
from zmesh.runtime.subscription import PeerSubscription
from zmesh.runtime.topic import BROADCAST_TOPIC, Heard, PublishedTopic, TopicFeed, topic_of
from zmesh.wire.data import TopicNote, TopicNoteKind, TopicRun, decode_topic_frame

__all__ = ["Publishing"]

logger = logging.getLogger("zmesh.publish")

SETTLE_S: Final = 0.002
MAX_TOPICS_PER_PEER: Final = 10_000


class Publishing:
    """Topics published and heard by this node."""

    def __init__(self, plane: DataPlane, xpub: zmq.Socket[bytes]) -> None:
        self.plane = plane
        self.loop = plane.loop
        self.incarnation = plane.incarnation
        self._xpub = xpub
        self._xpub_fd = int(xpub.getsockopt(zmq.FD))
        self._topics: dict[bytes, PublishedTopic] = {}
        self._peers: dict[str, PeerSubscription] = {}
        self._members: dict[bytes, dict[int, None]] = {}  # the agents here that have joined each group
        self._unsettled: dict[TopicFeed, None] = {}
        self._awaited: dict[str, None] = {}  # nodes that have joined and not yet subscribed to broadcasts
        self._arrived = asyncio.Event()
        self._settle_timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        plane.topic_notes = self._receive_notes
        plane.on_tick.append(self._tick)

    def start(self) -> None:
        """Begin to read subscriptions."""
        self.loop.add_reader(self._xpub_fd, self._read_subscriptions)
        self.loop.call_soon(self._read_subscriptions)

    def close(self, error: NetworkError) -> None:
        """Stop."""
        self._is_closed = True
        if self._settle_timer is not None:
            self._settle_timer.cancel()
        for topic in self._topics.values():
            topic.close(error)
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
        self.loop.remove_reader(self._xpub_fd)
        self._xpub.close(0)

    # -- peers -------------------------------------------------------------------------------------------------------

    def connect(self, node_id: str, incarnation: int, address: PeerAddress) -> None:
        """Hear an incarnation of a peer at its publish endpoint."""
        peer = self._peers.get(node_id)
        if peer is not None and peer.incarnation == incarnation and peer.address == address:
            return
        if peer is not None and peer.incarnation == incarnation:
            self._close_subscription(peer)  # it has moved; what it hears of us is not touched by that
        else:
            self.disconnect(node_id)
            if not self.topic(None).publisher.is_subscribed(node_id):
                self._awaited[node_id] = None
        peer = self._peers[node_id] = PeerSubscription(
            self.plane, node_id, incarnation, address, self.receive_published, self.settle_later
        )
        for topic in (BROADCAST_TOPIC, *self._members):
            peer.subscribe(topic)

    def disconnect(self, node_id: str) -> None:
        """The peer is gone for good, or has a new incarnation."""
        self._no_longer_awaited(node_id)
        peer = self._peers.pop(node_id, None)
        if peer is not None:
            self._close_subscription(peer)
        for topic in self._topics.values():
            topic.publisher.remove(node_id)
            topic.update_room()

    def _close_subscription(self, peer: PeerSubscription) -> None:
        peer.close()
        for feed in peer.feeds.values():
            self._unsettled.pop(feed, None)

    @property
    def awaits_subscribers(self) -> bool:
        """Whether a node that has just joined has not yet subscribed to broadcasts."""
        return bool(self._awaited)

    async def wait_for_subscribers(self, timeout_s: float) -> None:
        """Wait until they have; those who have not by then are waited for no longer."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._awaited:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            logger.info("broadcasting without %s, which has not subscribed yet", ", ".join(self._awaited))
            self._awaited.clear()

    def _no_longer_awaited(self, node_id: str) -> None:
        self._awaited.pop(node_id, None)
        self._arrived.set()

    # -- publishing --------------------------------------------------------------------------------------------------

    def topic(self, group: str | None) -> PublishedTopic:
        """The topic of a group, or of the broadcast."""
        name = topic_of(group)
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = PublishedTopic(self, self.plane.node_id, name, self.plane.window_bytes)
        return topic

    def send_published(self, data: bytes) -> None:
        """Send on the publish socket, which never blocks; a subscriber over its high-water mark misses it."""
        self._xpub.send(data, NOBLOCK)
        self.plane.statistics.frames_sent += 1
        self.plane.statistics.bytes_sent += len(data)
        if has_input(self._xpub):  # sending may eat the descriptor's edge
            self.loop.call_soon(self._read_subscriptions)

    def _read_subscriptions(self) -> None:
        xpub = self._xpub
        while not xpub.closed and has_input(xpub):
            part = xpub.recv(NOBLOCK, copy=False)
            message = part.bytes
            if message[:1] == b"\x01" and message[-1:] == b"\0":
                self._subscribed(part, message[1:])

    def _subscribed(self, part: zmq.Frame, name: bytes) -> None:
        try:
            node_id = str(part.get("User-Id"))
            group = None if name == BROADCAST_TOPIC else name[1:-1].decode()
        except (zmq.ZMQError, UnicodeDecodeError):
            self.plane.statistics.dropped_malformed += 1
            return
        if name != topic_of(group) or (name not in self._topics and len(self._topics) >= MAX_TOPICS_PER_PEER):
            self.plane.statistics.dropped_malformed += 1
            return
        topic = self.topic(group)
        self._apply(topic, topic.publisher.subscribe(monotonic(), node_id))
        if group is None:
            self._no_longer_awaited(node_id)

    def _apply(self, topic: PublishedTopic, effects: Iterable[PublisherEffect]) -> None:
        for effect in effects:
            link = self.plane.links.link_for(effect.node_id)
            if isinstance(effect, SubscriberLagging):
                self.plane.statistics.lost_lagging_subscriber += 1
                logger.warning("node %s lags behind in %r: publishing goes on without it", effect.node_id, topic.topic)
                topic.update_room()
            elif isinstance(effect, TellSubscriber):
                kind = TopicNoteKind[effect.note.name]
                link.add_note(TopicNote(kind, topic.topic, self.incarnation, effect.position))
            elif isinstance(effect, SendRepair):
                for frame in effect.frames:
                    link.add_repair(frame)

    # -- hearing -----------------------------------------------------------------------------------------------------

    def receive_published(self, peer: PeerSubscription, data: bytes) -> None:
        """A frame of a peer's publish socket, or a repaired one."""
        end = data.find(b"\0") + 1
        feed = peer.feeds.get(data[:end])
        if feed is None:
            return  # unsubscribed a moment ago
        try:
            frame = decode_topic_frame(memoryview(data)[end:])
        except ProtocolViolation as violation:
            self.plane.refuse_published(peer.node_id, violation)
            return
        self.plane.statistics.frames_received += 1
        self.plane.statistics.bytes_received += len(data)
        if frame.incarnation != peer.incarnation:
            self.plane.statistics.dropped_stale += 1
            return
        now = monotonic()
        count = sum(len(run.payloads) for run in frame.runs)
        heard = Heard(frame.runs, frame.first, frame.timestamp, len(data))
        self._apply_heard(feed, feed.subscriber.receive(now, frame.first, count, len(data), heard))
        self._settle(feed, now)

    def _apply_heard(self, feed: TopicFeed, effects: Iterable[SubscriberEffect[Heard]]) -> None:
        for effect in effects:
            if isinstance(effect, Deliver):
                heard = effect.frame
                held = self._deliver(
                    feed, feed.topic, feed.origin, heard.runs, heard.first, heard.timestamp, heard.size
                )
                feed.subscriber.held_bytes += held
            elif isinstance(effect, Lost):
                self.plane.statistics.lost_topic_gap += effect.count
                logger.warning(
                    "lost %d messages of node %s on %r: lagged behind", effect.count, feed.node_id, feed.topic
                )
            else:
                self._tell(feed, TopicNoteKind.REPAIR if effect.repair else TopicNoteKind.POSITION, effect.position)

    def _tell(self, feed: TopicFeed, kind: TopicNoteKind, position: int) -> None:
        self.plane.links.link_for(feed.node_id).add_note(TopicNote(kind, feed.topic, feed.incarnation, position))

    def deliver_published(
        self, topic: PublishedTopic, runs: list[TopicRun], first: int, timestamp: int, size: int
    ) -> None:
        """Hand what this node published, ``size`` bytes of frame, to its own agents."""
        held = self._deliver(topic, topic.topic, topic.origin, runs, first, timestamp, size)
        topic.delivered_locally(size - held)
        self.plane.statistics.messages_published += sum(len(run.payloads) for run in runs)

    def _deliver(
        self,
        keeper: TopicFeed | PublishedTopic,
        topic: bytes,
        origin: Origin,
        runs: list[TopicRun],
        first: int,
        timestamp: int,
        size: int,
    ) -> int:
        """Hand runs to every agent here that hears the topic; the bytes they still hold, in total."""
        mailboxes = self.plane.mailboxes
        members = list(mailboxes) if topic == BROADCAST_TOPIC else list(self._members.get(topic, ()))
        share = size // sum(len(run.payloads) for run in runs)
        own = isinstance(keeper, PublishedTopic)
        held = 0
        for run in runs:
            for agent_id in members:
                mailbox = mailboxes.get(agent_id)
                if mailbox is not None and not (own and agent_id == run.from_agent):
                    messages = published_messages(run, first, timestamp, origin)
                    held += share * mailbox.deliver(Batch(messages, len(run.payloads), keeper, None, share, None))
            first += len(run.payloads)
        return held

    # -- groups ------------------------------------------------------------------------------------------------------

    def join_group(self, agent_id: int, group: str) -> list[TopicFeed]:
        """Hear a group; the feeds whose ``live`` tells when that is so."""
        topic = topic_of(group)
        self._members.setdefault(topic, {})[agent_id] = None
        return [peer.subscribe(topic) for peer in self._peers.values()]

    def leave_group(self, agent_id: int, group: str) -> None:
        """Hear it no more."""
        topic = topic_of(group)
        members = self._members.get(topic, {})
        members.pop(agent_id, None)
        if topic in self._members and not members:
            del self._members[topic]
            for peer in self._peers.values():
                feed = peer.unsubscribe(topic)
                if feed is not None:
                    self._tell(feed, TopicNoteKind.UNSUBSCRIBED, 0)

    def forget_agent(self, agent_id: int) -> None:
        """The agent is gone: it is in no group."""
        for topic in [topic for topic, members in self._members.items() if agent_id in members]:
            self.leave_group(agent_id, topic[1:-1].decode())

    # -- notes and time ----------------------------------------------------------------------------------------------

    def _receive_notes(self, link: Link, notes: list[TopicNote], repairs: list[bytes]) -> None:
        for note in notes:
            if note.kind in (TopicNoteKind.POSITION, TopicNoteKind.REPAIR, TopicNoteKind.UNSUBSCRIBED):
                self._receive_from_subscriber(link.node_id, note)
            else:
                self._receive_from_publisher(link.node_id, note)
        peer = self._peers.get(link.node_id)
        if peer is not None:
            for data in repairs:
                self.receive_published(peer, data)

    def _receive_from_subscriber(self, node_id: str, note: TopicNote) -> None:
        topic = self._topics.get(note.topic)
        if topic is None or note.incarnation != self.incarnation:
            return
        now = monotonic()
        if note.kind is TopicNoteKind.POSITION:
            topic.publisher.receive_position(now, node_id, note.position)
        elif note.kind is TopicNoteKind.REPAIR:
            self._apply(topic, topic.publisher.receive_repair_request(now, node_id, note.position))
        else:
            topic.publisher.remove(node_id)
        topic.update_room()

    def _receive_from_publisher(self, node_id: str, note: TopicNote) -> None:
        peer = self._peers.get(node_id)
        if peer is None or peer.incarnation != note.incarnation:
            return
        feed = peer.feeds.get(note.topic)
        if feed is None:
            # It was left, and the word of it got lost: the publisher must not go on waiting for this node.
            link = self.plane.links.link_for(node_id)
            link.add_note(TopicNote(TopicNoteKind.UNSUBSCRIBED, note.topic, note.incarnation, 0))
            return
        now = monotonic()
        if note.kind is TopicNoteKind.GONE:
            self._apply_heard(feed, feed.subscriber.receive_gone(now, note.position))
        else:
            feed.subscriber.receive_position(now, note.position)
            feed.live.set()
        self._settle(feed, now)

    def _settle(self, feed: TopicFeed, now: float) -> None:
        self._apply_heard(feed, feed.subscriber.handle_timeout(now))
        if feed.subscriber.next_deadline() is not None:
            self.settle_later(feed)

    def settle_later(self, feed: TopicFeed) -> None:
        """See to it that the feed's publisher hears of its position soon."""
        self._unsettled[feed] = None
        if self._settle_timer is None and not self._is_closed:
            self._settle_timer = self.loop.call_later(SETTLE_S, self._settle_all)

    def _settle_all(self) -> None:
        self._settle_timer = None
        unsettled, self._unsettled = self._unsettled, {}
        now = monotonic()
        for feed in unsettled:
            self._settle(feed, now)

    def _tick(self, now: float) -> None:
        for topic in self._topics.values():
            self._apply(topic, topic.publisher.handle_timeout(now))
