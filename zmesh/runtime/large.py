"""Payloads too large for a frame: each is sent as attachments, in chunks, as credit comes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from zmesh.errors import PeerLost
from zmesh.runtime.outbox import Label, Route
from zmesh.wire.data import Run
from zmesh.wire.limits import ATTACHMENT_BYTES

if TYPE_CHECKING:
    from zmesh.runtime.data_plane import DataPlane
    from zmesh.runtime.link import Link

__all__ = ["LargePayloads"]

logger = logging.getLogger("zmesh.data")


class LargePayloads:
    """Those of one link."""

    __slots__ = ("_link", "_lock", "_plane")

    def __init__(self, link: Link, plane: DataPlane) -> None:
        self._link = link
        self._plane = plane
        self._lock = asyncio.Lock()  # one message of several chunks at a time: its receiver joins those of one only

    def answer(self, route: Route, payload: bytes, correlation: int) -> None:
        """Send an answer now, overdrawing credit, or, where it takes several chunks, when its turn comes."""
        if self._link.refuses_answer(route, len(payload), correlation, self._plane.max_message_bytes):
            return
        if len(payload) <= ATTACHMENT_BYTES:
            self._commit(route, memoryview(payload), 0, correlation, None)
        else:
            self._plane.spawn(self._answer_in_turn(route, payload, correlation))

    async def _answer_in_turn(self, route: Route, payload: bytes, correlation: int) -> None:
        try:
            await self._send_chunks(route, payload, correlation, None)
        except PeerLost as error:
            logger.info("an answer of %d bytes did not reach its requester: %s", len(payload), error)

    async def send(self, route: Route, payload: bytes, label: Label | None = None) -> int:
        """Send a payload, each chunk when there is credit for it; the number of its last record."""
        if len(payload) > ATTACHMENT_BYTES:
            return await self._send_chunks(route, payload, None, label)
        if self._link.budget <= 0:
            await self._link.wait_for_room(len(payload))
        return self._commit(route, memoryview(payload), 0, None, label)

    async def _send_chunks(self, route: Route, payload: bytes, correlation: int | None, label: Label | None) -> int:
        view = memoryview(payload)
        number = 0
        async with self._lock:
            for offset in range(0, len(payload), ATTACHMENT_BYTES):
                await self._link.wait_for_room(min(ATTACHMENT_BYTES, len(payload) - offset))
                number = self._commit(route, view, offset, correlation, label)
        return number

    def _commit(self, route: Route, view: memoryview, offset: int, correlation: int | None, label: Label | None) -> int:
        run = Run(
            route.kind,
            route.to_agent,
            route.from_agent,
            route.message_type,
            route.priority,
            route.ttl_ms,
            [],
            None if correlation is None else [correlation],
            None if label is None else [label[0]],
            None if label is None else [label[1]],
            part=(len(view), offset),
        )
        return self._link.send_attachment(run, view[offset : offset + ATTACHMENT_BYTES])
