"""Limits of the data plane, each with its reason. Both ends enforce them; changing one is a new wire version."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ANSWERS_IN_FRAME",
    "ATTACHMENT_BYTES",
    "FRAME_BYTES",
    "GROUP_NAME_BYTES",
    "INITIAL_CREDIT_BYTES",
    "INLINE_BYTES",
    "MAX_NUMBER",
    "MAX_PART_BYTES",
    "MAX_TOPIC_BYTES",
    "MAX_TTL_MS",
    "MESSAGE_ID_BYTES",
    "RECORD_OVERHEAD_BYTES",
    "WIRE_VERSION",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB

WIRE_VERSION: Final = 1

# A frame is flushed at this size: 800 small messages, under 1 ms of the receiver's loop.
FRAME_BYTES: Final = 64 * KIB

# Answers leave this many at a time, so that requester and answerer work at once and not in turns: with 1,000 requests
# in flight, 128 measured 0.85, 64 measured 0.6, and frames of 64 KiB 0.85 of its requests a second.
ANSWERS_IN_FRAME: Final = 256

# A payload up to this size is copied into its frame; above, a part of its own saves two copies.
INLINE_BYTES: Final = 16 * KIB

# A longer payload is cut into chunks of this size, so that others get a turn.
ATTACHMENT_BYTES: Final = MIB

# ZMQ_MAXMSGSIZE: a chunk, or a frame that its last payload overfilled, and slack.
MAX_PART_BYTES: Final = MIB + 256 * KIB

# What a sender may send before it has heard of any grant.
INITIAL_CREDIT_BYTES: Final = MIB

# A payload's header and a correlation: so that a frame holds 4,096 records at most.
RECORD_OVERHEAD_BYTES: Final = 16

GROUP_NAME_BYTES: Final = 200
MESSAGE_ID_BYTES: Final = 200  # of an id that a user chose
MAX_TOPIC_BYTES: Final = GROUP_NAME_BYTES + 2  # "g", the name, NUL

# Record numbers, byte offsets, incarnations: signed 64-bit, so that sums of two never leave what MessagePack can say.
MAX_NUMBER: Final = (1 << 63) - 1
MAX_TTL_MS: Final = (1 << 32) - 1  # 49 days
