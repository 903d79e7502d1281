"""Taking a node out of service: it asks for no new work, and tells when what it has is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

import msgspec

from zmesh.errors import NetworkError, NotJoined, UsageError
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.local import LocalOutbox

__all__ = ["Maintenance", "Unfinished", "flushed"]


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """What a node still has to do; false where there is nothing."""

    handlers: int  # that have begun and not returned
    queued: int  # messages that wait for a handler, or to be read
    unacknowledged: (
        int  # messages and answers from here that the nodes they go to, as far as reachable, do not have yet
    )

    def __bool__(self) -> bool:
        return bool(self.handlers or self.queued or self.unacknowledged)


class Maintenance:
    """Whether a node is in maintenance, and how far its work is done."""

    def __init__(
        self, plane: DataPlane, local: LocalOutbox, announce: Callable[[bool], None], settling_s: float
    ) -> None:
        """``settling_s`` after an announcement others have heard of it, and what they sent before is here."""
        self._plane = plane
        self._local = local
        self._announce = announce
        self._settling_s = settling_s
        self._since: float | None = None
        self._draining: set[asyncio.Future[None]] = set()

    def set(self, is_on: bool) -> None:
        """Ask for no new work, or for work again."""
        if is_on is not (self._since is not None):
            self._since = self._plane.loop.time() if is_on else None
            self._announce(is_on)

    async def drain(self, timeout_s: float) -> Unfinished:
        """See ``AgentNetwork.drain``."""
        if not 0 <= timeout_s < inf:
            raise UsageError(f"timeout_s={timeout_s} must be finite and not negative: nothing waits for ever")
        self.set(True)
        loop = self._plane.loop
        settled = loop.time() if self._since is None else self._since + self._settling_s
        done: asyncio.Future[None] = loop.create_future()

        def look(_: float) -> None:
            if loop.time() >= settled and not self.unfinished() and not done.done():
                done.set_result(None)

        # Nothing tells when the last of many handlers returns: that would cost on the hot path, and a look does not.
        self._plane.on_tick.append(look)
        self._draining.add(done)
        try:
            async with asyncio.timeout(timeout_s):
                await done
        except TimeoutError:
            pass  # what is left is the answer
        finally:
            self._plane.on_tick.remove(look)
            self._draining.discard(done)
        return self.unfinished()

    def close(self) -> None:
        """The node leaves: whoever waits for it to be drained is told."""
        for done in self._draining:
            if not done.done():
                done.set_exception(NotJoined("this network was left while it was being drained"))

    def unfinished(self) -> Unfinished:
        """What is left to do at this moment."""
        mailboxes, links = self._plane.mailboxes.values(), self._plane.links.all()
        return Unfinished(
            handlers=sum(mailbox.running for mailbox in mailboxes),
            queued=sum(mailbox.queued for mailbox in mailboxes) + self._local.undelivered,
            unacknowledged=sum(link.unacknowledged for link in links if link.is_reachable),
        )


async def flushed(plane: DataPlane, timeout_s: float) -> int:
    """Send everything and wait until peers have it; how many records were left after ``timeout_s`` seconds."""
    links = plane.links.all()
    try:
        async with asyncio.timeout(timeout_s):
            for link in links:
                link.flush()
                if link.unacknowledged and link.is_reachable:
                    await link.acknowledged(link.next_record - 1)
    except (TimeoutError, NetworkError):
        pass  # what is left is counted below and reported by the links when they close
    return sum(link.unacknowledged for link in links)
