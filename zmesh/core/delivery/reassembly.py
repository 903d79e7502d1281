"""Joins the chunks of one large message at a time; chunks come in order, and those of two messages do not interleave.

A sender may give a message up between two chunks (its user stopped waiting for credit): the next one then starts anew.
"""

from __future__ import annotations

from zmesh.errors import ProtocolViolation

__all__ = ["Reassembly"]


class Reassembly:
    """At most one unfinished message of at most ``max_message_bytes``."""

    __slots__ = ("_buffer", "_max_message_bytes", "_total", "abandoned")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer = bytearray()
        self._total = 0  # of the unfinished message
        self.abandoned = 0  # messages whose sender gave them up before their last chunk

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished message held now."""
        return len(self._buffer)

    def check_total(self, total: int) -> None:
        """Raise ``ProtocolViolation`` for a message larger than any may be."""
        if total > self._max_message_bytes:
            self._buffer = bytearray()
            raise ProtocolViolation("oversize_message", f"{total} bytes announced, {self._max_message_bytes} allowed")

    def receive(self, total: int, offset: int, chunk: bytes | memoryview) -> bytes | None:
        """Take one chunk; the whole payload when it is the last. Raises ``ProtocolViolation``."""
        self.check_total(total)
        if offset == 0 and len(chunk) == total:
            return bytes(chunk)  # in one piece: it may come between the chunks of another
        if offset == 0:
            self.abandoned += bool(self._buffer)
            self._buffer, self._total = bytearray(), total
        buffer = self._buffer
        if total != self._total or offset != len(buffer) or offset + len(chunk) > total or not len(chunk):
            self._buffer = bytearray()
            raise ProtocolViolation("chunk_out_of_order", f"chunk at {offset}+{len(chunk)} of {total}")
        buffer += chunk  # grown as chunks come, so that an announced size alone costs no memory
        if len(buffer) < total:
            return None
        self._buffer = bytearray()
        return bytes(buffer)
