"""Joins the chunks of one large message at a time; chunks of a link come in order and do not interleave."""

from __future__ import annotations

from zmesh.errors import ProtocolViolation

__all__ = ["Reassembly"]


class Reassembly:
    """At most one unfinished message of at most ``max_message_bytes``."""

    __slots__ = ("_buffer", "_filled", "_max_message_bytes")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer: bytearray | None = None
        self._filled = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished message held now."""
        return self._filled

    def receive(self, total: int, offset: int, chunk: bytes | memoryview) -> bytes | None:
        """Take one chunk; the whole payload when it is the last. Raises ``ProtocolViolation``."""
        if total > self._max_message_bytes:
            raise ProtocolViolation("oversize_message", f"{total} bytes announced, {self._max_message_bytes} allowed")
        if offset == 0 and len(chunk) == total and self._buffer is None:
            return bytes(chunk)
        if offset == 0 and self._buffer is None:
            self._buffer, self._filled = bytearray(), 0
        buffer = self._buffer
        if buffer is None or offset != self._filled or offset + len(chunk) > total or not len(chunk):
            self._buffer, self._filled = None, 0
            raise ProtocolViolation("chunk_out_of_order", f"chunk at {offset}+{len(chunk)} of {total}")
        # Grown as chunks come, so that an announced size alone costs no memory.
        buffer += chunk
        self._filled += len(chunk)
        if self._filled < total:
            return None
        self._buffer, self._filled = None, 0
        return bytes(buffer)
