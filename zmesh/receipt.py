"""The proof of posting: what a sender holds to learn whether the message arrived."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from zmesh.errors import RequestTimeout

__all__ = ["Receipt"]


class Acknowledging(Protocol):
    """A link, the local queue or a topic: whatever learns that records have arrived."""

    receipt_prefix: str

    def is_acknowledged(self, number: int) -> bool:
        """Whether the record has arrived."""

    async def acknowledged(self, number: int) -> None:
        """Wait until it has."""


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Returned by every send. Costs nothing until asked."""

    _sender: Acknowledging
    _number: int
    _given_id: str = ""

    @property
    def message_id(self) -> str:
        """The id under which the receiver sees the message."""
        return self._given_id or f"{self._sender.receipt_prefix}{self._number:x}"

    @property
    def is_delivered(self) -> bool:
        """Whether every node it went to has acknowledged it."""
        return self._sender.is_acknowledged(self._number)

    async def delivered(self, timeout_s: float | None = None) -> None:
        """Wait until every node it went to has acknowledged it.

        Raises ``PeerLost`` when the node went away before it did (it may or may not have acted on the message), and
        ``RequestTimeout`` after ``timeout_s`` seconds; the message itself is still on its way then.
        """
        if timeout_s is None:
            await self._sender.acknowledged(self._number)
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._sender.acknowledged(self._number)
        except TimeoutError:
            raise RequestTimeout(f"message {self.message_id} was not acknowledged within {timeout_s:g} s") from None

    def __repr__(self) -> str:
        return f"Receipt({self.message_id!r}, is_delivered={self.is_delivered})"
