"""Limits of the data plane, each with its reason. Both ends enforce them; changing one is a new wire version."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATTACHMENT_BYTES",
    "FRAME_BYTES",
    "GROUP_NAME_BYTES",
    "INITIAL_CREDIT_BYTES",
    "INLINE_BYTES",
    "MAX_PART_BYTES",
    "RECORD_OVERHEAD_BYTES",
    "WIRE_VERSION",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB

WIRE_VERSION: Final = 1
FRAME_BYTES: Final = 64 * KIB  # a frame is flushed at this size: 800 small messages, under 1 ms of the receiver's loop
INLINE_BYTES: Final = (
    64 * KIB
)  # a payload up to this size is copied into its frame; above, a part of its own is cheaper
ATTACHMENT_BYTES: Final = MIB  # a longer payload is cut into chunks of this size, so that others get a turn
MAX_PART_BYTES: Final = (
    MIB + 256 * KIB
)  # ZMQ_MAXMSGSIZE: a chunk, or a frame that its last payload overfilled, and slack
INITIAL_CREDIT_BYTES: Final = MIB  # what a sender may send before it has heard of any grant
RECORD_OVERHEAD_BYTES: Final = 16  # a payload's header and a correlation: so that a frame holds 4,096 records at most
GROUP_NAME_BYTES: Final = 200
