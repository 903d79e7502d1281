"""What a node counts. Every message that was not delivered shows in one of the ``lost`` or ``dropped`` counters."""

from __future__ import annotations

import msgspec

__all__ = ["Counters", "Statistics"]


class Counters(msgspec.Struct):
    """Counters since the network was joined, as whatever counts shares them."""

    messages_sent: int = 0  # records handed to a session or to a local agent
    messages_delivered: int = 0  # records handed to an agent of this node
    messages_published: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    frames_resent: int = 0
    acks_sent: int = 0  # frames that carried nothing but an ack
    probes_sent: int = 0
    handlers_failed: int = 0
    requests_timed_out: int = 0
    late_replies: int = 0  # came after their request had ended
    # messages that were not delivered, by cause
    lost_peer_lost: int = 0  # unacknowledged when the session ended
    lost_unknown_agent: int = 0  # the node is there, the agent is not
    lost_expired: int = 0  # the ttl ran out in a queue
    lost_agent_closed: int = 0  # waited in the queue of an agent that was closed
    lost_topic_gap: int = 0  # published while this node lagged too far behind
    lost_lagging_subscriber: int = 0  # as its publisher counts the same loss: subscribers given up on
    # frames that were dropped
    dropped_duplicate: int = 0
    dropped_gap: int = 0  # will be sent again
    dropped_stale: int = 0  # of a past incarnation
    dropped_malformed: int = 0
    dropped_wrong_version: int = 0
    dropped_unauthenticated: int = 0
    connections_cut: int = 0  # because the peer broke the protocol

    def frozen(self) -> Statistics:
        """What they are now."""
        return Statistics(*msgspec.structs.astuple(self))


class Statistics(Counters, frozen=True):  # type: ignore[misc]  # a dataclass could not, a Struct can
    """The counters of one moment since the network was joined; they do not change any more, and cannot be changed."""
