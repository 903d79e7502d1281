"""Which agents of this node hear a topic, and how what is published to it reaches them."""

from __future__ import annotations

from collections.abc import Sequence

from zmesh.runtime.mailbox import Batch, Mailbox
from zmesh.runtime.received import Origin, published_messages
from zmesh.runtime.topic import BROADCAST_TOPIC, Heard, PublishedTopic, TopicFeed, topic_of

__all__ = ["Audience"]


class Audience:
    """The groups that agents here have joined. The broadcast is heard by all."""

    def __init__(self, mailboxes: dict[int, Mailbox]) -> None:
        self._mailboxes = mailboxes
        self._members: dict[bytes, dict[int, None]] = {}

    @property
    def topics(self) -> Sequence[bytes]:
        """What this node has to hear, the broadcast first."""
        return (BROADCAST_TOPIC, *self._members)

    def join(self, agent_id: int, group: str) -> bytes:
        """Add an agent to a group; the group's topic."""
        topic = topic_of(group)
        self._members.setdefault(topic, {})[agent_id] = None
        return topic

    def leave(self, agent_id: int, topic: bytes) -> bool:
        """Take an agent out of a group; whether nobody here hears that any more."""
        members = self._members.get(topic)
        if members is None:
            return False
        members.pop(agent_id, None)
        if not members:
            del self._members[topic]
        return not members

    def topics_of(self, agent_id: int) -> list[bytes]:
        """The groups an agent has joined."""
        return [topic for topic, members in self._members.items() if agent_id in members]

    def deliver(self, keeper: TopicFeed | PublishedTopic, origin: Origin, heard: Heard) -> int:
        """Hand a frame to every agent that hears its topic; the bytes they still hold, in total.

        ``keeper`` is told as they let go of them. An agent does not hear what it publishes itself.
        """
        mailboxes, topic, first = self._mailboxes, keeper.topic, heard.first
        members = list(mailboxes) if topic == BROADCAST_TOPIC else list(self._members.get(topic, ()))
        share = heard.size // sum(len(run.payloads) for run in heard.runs)
        own = isinstance(keeper, PublishedTopic)
        held = 0
        for run in heard.runs:
            for agent_id in members:
                mailbox = mailboxes.get(agent_id)
                if mailbox is not None and not (own and agent_id == run.from_agent):
                    messages = published_messages(run, first, heard.timestamp, origin)
                    held += share * mailbox.deliver(Batch(messages, len(run.payloads), keeper, None, share, None))
            first += len(run.payloads)
        return held
