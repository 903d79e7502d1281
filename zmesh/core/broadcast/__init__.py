"""Broadcast on one topic from one publisher to its subscribers, over links that may lose (docs/spec/05-broadcast.md).

PUB/SUB drops without a word, so frames are numbered per (publisher incarnation, topic); subscribers say how far they
are, the publisher holds frames until the slowest has them, and gaps are filled over the data plane.
"""

from zmesh.core.broadcast.publisher import (
    PublisherEffect,
    SendRepair,
    SubscriberLagging,
    TellSubscriber,
    TopicPublisher,
)
from zmesh.core.broadcast.subscriber import (
    Deliver,
    Lost,
    SubscriberEffect,
    TellPublisher,
    TopicSubscriber,
)

__all__ = [
    "Deliver",
    "Lost",
    "PublisherEffect",
    "SendRepair",
    "SubscriberEffect",
    "SubscriberLagging",
    "TellPublisher",
    "TellSubscriber",
    "TopicPublisher",
    "TopicSubscriber",
]
