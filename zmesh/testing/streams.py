"""Connections: what a protocol above TCP, or above a ZeroMQ pipe, sees of the network.

A stream goes one way. While it stands, what is put into it arrives once and in order; a lost packet makes all behind it
wait, and behind a cut everything waits until the cut is over. When it breaks, any suffix of what was under way is lost,
and what does arrive of it may be read after the first messages of its successor, as from the two pipes of a ZeroMQ
socket. It connects again by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from zmesh.testing.delays import QUANTILES
from zmesh.testing.inputs import deliver

if TYPE_CHECKING:
    from zmesh.testing.host import Host

__all__ = ["Stream", "arrive"]

RETRANSMIT_S: Final = 0.2  # TCP's least timeout on Linux
RECONNECT_S: Final = 0.1  # ZeroMQ's default interval


class Stream:
    """From a process to whoever is at an address; ``opened(now)`` is called in the process for each new connection."""

    __slots__ = (
        "_backlog",
        "_epoch",
        "_kept_until",
        "_last",
        "_opened",
        "_run",
        "address",
        "drop",
        "is_lasting",
        "is_open",
        "source",
    )

    def __init__(
        self, source: Host, address: str, opened: Callable[[float], None], *, is_lasting: bool = False
    ) -> None:
        self.is_lasting = is_lasting  # never breaks while both processes live: a session above connections
        self.source = source
        self.address = address
        self.is_open = False
        self.drop = 0.0  # the share of messages that vanish though it stands: a full queue at its end
        self._opened = opened
        self._run = source.run
        self._epoch = 0
        self._last = 0.0  # when the last message arrives
        self._kept_until = 0.0  # of earlier connections, what arrives until then is not lost
        self._backlog: deque[Any] = deque()  # waits for a cut to end
        source.streams.append(self)
        self._try_later()

    @property
    def name(self) -> str:
        """Where from and where to."""
        return f"{self.source.name}>{self.address}"

    def send(self, message: Any) -> bool:
        """Put a message in; False if there is no connection that would take it."""
        if not self.is_open:
            return False
        self.source.sent += 1
        if self._backlog or self._is_stalled:
            self._wait_behind_cut(message)
        elif not self.drop or self.source.chance() >= self.drop:
            self._carry(message)
        return True

    def break_(self, keep: float | None = None) -> None:
        """It breaks. Of the time that what is under way still needs, ``keep`` is what makes it: a share, or any."""
        if not self.is_open or (self.is_lasting and keep is None):
            return
        now, share = self.source.world.now, self.source.chance() if keep is None else keep
        self._kept_until = now + max(self._last - now, 0.0) * share
        self._backlog.clear()
        self.is_open = False
        self._epoch += 1
        self._try_later()

    def close(self) -> None:
        """This end wants it no more. What is under way arrives."""
        self._backlog.clear()
        self.is_open = False
        self._run = -1
        if self in self.source.streams:
            self.source.streams.remove(self)

    # -- the connection ------------------------------------------------------------------------------------------------

    @property
    def _is_stalled(self) -> bool:
        network, target = self.source.world.network, self.source.world.network.at_address.get(self.address)
        link = self.source.links.get(self.address) or network.link(self.source, self.address)
        return target is None or link is None or link.conditions.is_cut or link.conditions.is_clogged

    @property
    def _is_stalled_back(self) -> bool:
        network = self.source.world.network
        target = network.at_address.get(self.address)
        back = None if target is None else network.link(target, self.source.address)
        return back is None or back.conditions.is_cut or back.conditions.is_clogged

    def _try_later(self) -> None:
        self.source.world.after(RECONNECT_S * (0.5 + self.source.chance()), self._try)

    def _try(self) -> None:
        if self.is_open or self.source.run != self._run or self.source.process is None:
            return
        target = self.source.world.network.at_address.get(self.address)
        if target is None or target.process is None or self._is_stalled or self._is_stalled_back:
            self._try_later()
            return
        self.is_open = True
        self._last = self.source.world.now
        self.source.call(self._opened)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _carry(self, message: Any) -> None:
        source, world = self.source, self.source.world
        link = world.network.link(source, self.address)
        if link is None:
            return
        at = world.now + link.table[int(source.chance() * QUANTILES)]
        loss = min(link.conditions.loss, 0.9)
        while loss and source.chance() < loss:
            at += RETRANSMIT_S
        self._last = at = max(at, self._last)
        world.push(at, arrive, self, self._epoch, message)

    def _wait_behind_cut(self, message: Any) -> None:
        if not self._backlog:
            self.source.world.after(RETRANSMIT_S, self._retransmit, self._epoch)
        self._backlog.append(message)

    def _retransmit(self, epoch: int) -> None:
        if epoch != self._epoch or self.source.run != self._run or self.source.process is None:
            return
        if self._is_stalled:
            self.source.world.after(RETRANSMIT_S, self._retransmit, epoch)
            return
        while self._backlog:
            self._carry(self._backlog.popleft())

    def take(self, epoch: int) -> Host | None:
        """Who reads a message of this epoch that arrives now; None if it is lost."""
        world = self.source.world
        if epoch != self._epoch and world.now > self._kept_until:
            world.network.lost += 1
            return None
        return world.network.at_address.get(self.address)


def arrive(stream: Stream, epoch: int, message: Any) -> None:
    """A message comes out at the other end."""
    target = stream.take(epoch)
    if target is not None:
        deliver(target, stream.source.identity, message)
