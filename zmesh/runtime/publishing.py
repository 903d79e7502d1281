"""Broadcast and groups: what this node publishes, who has subscribed to it, and what it hears of others.

In a near mesh every node subscribes to every other. In a wide one that would be n connections for each of n nodes, so a
node subscribes to those alone that say in their record that they publish. A node says so with its first publication,
which waits until all others have subscribed, or cannot be waited for any longer. It says so in a near mesh too: nodes
need not agree on how large the mesh is, and when it grows, those that join find out whom to hear.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from zmesh.core.broadcast import PublisherEffect, SendRepair, SubscriberLagging, TellSubscriber
from zmesh.errors import NetworkError
from zmesh.runtime.audience import Audience
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.hearing import Hearing
from zmesh.runtime.link import Link
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.topic import BROADCAST_TOPIC, Heard, PublishedTopic, TopicFeed, group_of, topic_of
from zmesh.wire.data import TopicNote, TopicNoteKind

__all__ = ["Publishing"]

logger = logging.getLogger("zmesh.publish")

MAX_TOPICS_PER_PEER: Final = 10_000
SUBSCRIBE_TIMEOUT_S: Final = 2.0  # many round trips and handshakes
FIRST_TIMEOUT_S: Final = 10.0  # in a wide mesh the word must spread, and everybody find the way here
FROM_SUBSCRIBERS: Final = (TopicNoteKind.POSITION, TopicNoteKind.REPAIR, TopicNoteKind.UNSUBSCRIBED)


class Publishing:
    """Topics published and heard by this node."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.loop = plane.loop
        self.incarnation = plane.incarnation
        self.clock, self.wall_ms = plane.clock, plane.wall_ms
        self._outlet = plane.carrier.new_outlet(self)
        self._topics: dict[bytes, PublishedTopic] = {}
        self._audience = Audience(plane.mailboxes)
        self._hearing = Hearing(plane, self._audience)
        self._incarnations: dict[str, int] = {}  # of the peers
        self._silent: dict[str, None] = {}  # those of them that are dead or have left
        self._awaited: dict[str, None] = {}  # nodes that have joined and not yet subscribed to broadcasts
        self._is_wide = False
        self._is_announced = False
        self.has_begun = False  # to publish: it was announced, and waited for
        self.announce: Callable[[], None] = lambda: None  # sees to it that this node's record says that it publishes
        self._arrived = asyncio.Event()
        plane.topic_notes = self._receive_notes
        plane.on_tick.append(self._tick)

    def start(self) -> None:
        """Begin to read subscriptions."""
        self._outlet.start()

    def close(self, error: NetworkError) -> None:
        """Stop."""
        for topic in self._topics.values():
            topic.close(error)
        self._hearing.close()
        self._outlet.close()

    # -- peers -------------------------------------------------------------------------------------------------------

    def connect(
        self, node_id: str, incarnation: int, address: PeerAddress | None, *, publishes: bool, is_wide: bool
    ) -> None:
        """An incarnation of a peer is there: hear it, where it is to be heard, and wait for it to hear us.

        ``address`` is its publish endpoint, if known; ``is_wide``: the mesh is too large for all to hear all.
        """
        self._is_wide = is_wide
        if publishes or not is_wide or self._hearing.hears(node_id, incarnation):
            self._hearing.connect(node_id, incarnation, address)
        else:
            self._hearing.disconnect(node_id)  # an incarnation before this one, that has published
        before = self._incarnations.get(node_id)
        self._incarnations[node_id] = incarnation
        if before not in (None, incarnation):
            self._forget_subscriber(node_id)  # what an incarnation before this one heard
        is_back = node_id in self._silent
        self._silent.pop(node_id, None)
        if (is_back or before != incarnation) and not self.topic(None).publisher.is_subscribed(node_id):
            self._awaited[node_id] = None

    def silence(self, node_id: str) -> None:
        """The peer is dead or has left: nobody waits for it, unless it comes back."""
        self._silent[node_id] = None
        self._no_longer_awaited(node_id)
        self._hearing.silence(node_id)

    def disconnect(self, node_id: str) -> None:
        """The peer is gone for good."""
        self._incarnations.pop(node_id, None)
        self._silent.pop(node_id, None)
        self._hearing.disconnect(node_id)
        self._forget_subscriber(node_id)

    def _forget_subscriber(self, node_id: str) -> None:
        self._no_longer_awaited(node_id)
        for topic in self._topics.values():
            topic.publisher.remove(node_id)
            topic.update_room()

    async def begin(self) -> None:
        """Before the first publication: say that this node publishes, and wait until the others hear it."""
        if not self._is_announced:
            self._is_announced = True
            self.announce()
        await self.wait_for_subscribers()
        self.has_begun = True

    @property
    def awaits_subscribers(self) -> bool:
        """Whether a node that has joined has not yet subscribed to broadcasts."""
        return bool(self._awaited)

    async def wait_for_subscribers(self) -> None:
        """Wait until they have; those who have not in time are waited for no longer."""
        timeout_s = FIRST_TIMEOUT_S if self._is_wide and not self.has_begun else SUBSCRIBE_TIMEOUT_S
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

    # -- groups ------------------------------------------------------------------------------------------------------

    def join_group(self, agent_id: int, group: str) -> list[TopicFeed]:
        """Hear a group; the feeds whose ``settled`` tells when that is so."""
        return self._hearing.subscribe(self._audience.join(agent_id, group))

    def leave_group(self, agent_id: int, group: str) -> None:
        """Hear it no more."""
        self._leave(agent_id, topic_of(group))

    def forget_agent(self, agent_id: int) -> None:
        """The agent is gone: it is in no group."""
        for topic in self._audience.topics_of(agent_id):
            self._leave(agent_id, topic)

    def _leave(self, agent_id: int, topic: bytes) -> None:
        if self._audience.leave(agent_id, topic):
            self._hearing.unsubscribe(topic)

    # -- publishing --------------------------------------------------------------------------------------------------

    def topic(self, group: str | None) -> PublishedTopic:
        """The topic of a group, or of the broadcast."""
        name = topic_of(group)
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = PublishedTopic(self, self.plane.node_id, name, self.plane.window_bytes)
        return topic

    def send_published(self, data: bytes) -> None:
        """Send to the subscribers, which never waits; one that lags too far behind misses it."""
        self._outlet.publish(data)
        self.plane.statistics.frames_sent += 1
        self.plane.statistics.bytes_sent += len(data)

    def deliver_published(self, topic: PublishedTopic, heard: Heard) -> None:
        """Hand what this node published to its own agents."""
        held = self._audience.deliver(topic, topic.origin, heard)
        topic.delivered_locally(heard.size - held)
        self.plane.statistics.messages_published += sum(len(run.payloads) for run in heard.runs)

    # -- subscribers -------------------------------------------------------------------------------------------------

    def subscribed(self, node_id: str, name: bytes) -> None:
        """A peer wants to hear the topic of that name."""
        try:
            group = group_of(name)
        except UnicodeDecodeError:
            self.refuse_subscription()
            return
        if name != topic_of(group) or (name not in self._topics and len(self._topics) >= MAX_TOPICS_PER_PEER):
            self.refuse_subscription()
            return
        topic = self.topic(group)
        self._apply(topic, topic.publisher.subscribe(self.clock(), node_id))
        if name == BROADCAST_TOPIC:
            self._no_longer_awaited(node_id)

    def refuse_subscription(self) -> None:
        """Somebody wants what is no topic, or one too many."""
        self.plane.statistics.dropped_malformed += 1

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

    # -- notes and time ----------------------------------------------------------------------------------------------

    def _receive_notes(self, link: Link, notes: list[TopicNote], repairs: list[bytes]) -> None:
        for note in notes:
            if note.kind in FROM_SUBSCRIBERS:
                self._receive_from_subscriber(link.node_id, note)
            else:
                self._hearing.receive_note(link.node_id, note)
        self._hearing.receive_repairs(link.node_id, repairs)

    def _receive_from_subscriber(self, node_id: str, note: TopicNote) -> None:
        topic = self._topics.get(note.topic)
        if topic is None or note.incarnation != self.incarnation:
            return
        now = self.clock()
        if note.kind is TopicNoteKind.POSITION:
            topic.publisher.receive_position(now, node_id, note.position)
        elif note.kind is TopicNoteKind.REPAIR:
            self._apply(topic, topic.publisher.receive_repair_request(now, node_id, note.position))
        else:
            topic.publisher.remove(node_id)
        topic.update_room()

    def _tick(self, now: float) -> None:
        for topic in self._topics.values():
            self._apply(topic, topic.publisher.handle_timeout(now))
        self._hearing.tick(now)
