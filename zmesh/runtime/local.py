"""Messages between agents of one node: a queue that the next loop turn empties. No socket, no encoding, no copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zmesh.errors import NetworkError
from zmesh.runtime.outbox import Label, Outbox, Route
from zmesh.runtime.receipts import WaitingReceipts
from zmesh.runtime.received import Origin
from zmesh.wire.limits import RECORD_OVERHEAD_BYTES

if TYPE_CHECKING:
    from zmesh.runtime.data_plane import DataPlane

__all__ = ["LocalOutbox"]

LOCAL_WINDOW_BYTES: Final = 1024 * 1024  # what may wait in this process before a sender must let its handlers run


class LocalOutbox(Outbox):
    """Delivers to this node's own mailboxes, in the order of sending, from a callback of the loop.

    Never from within the sender's own call: a handler that sends would recurse, and would run inside its sender's task.
    """

    __slots__ = ("_dispatched", "_held_bytes", "_plane", "_receipts")

    def __init__(self, plane: DataPlane) -> None:
        prefix = f"{plane.node_id}:{plane.incarnation:x}:{plane.node_id}:"
        super().__init__(plane.loop.call_soon, LOCAL_WINDOW_BYTES, Origin(plane.node_id, prefix), prefix)
        self.origin.outbox = self
        self._plane = plane
        self._dispatched = 1  # every record below this has been handed to its agent
        self._held_bytes = 0
        self._receipts = WaitingReceipts(plane.loop)

    def add_numbered(self, route: Route, payload: bytes) -> None:
        """As any other record: a handler must not run inside its sender's call."""
        (self.open_run(route) if route.payloads is None else route.payloads).append(payload)

    def flush(self) -> None:
        """A full outbox changes nothing here: the dispatch of the next loop turn takes it all."""

    def schedule_flush(self) -> None:
        """Dispatch in the next loop turn."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._flush_scheduled = False
        runs = self.take_runs()
        number, timestamp = self._dispatched, self._plane.wall_ms()
        # Before any handler runs: it may send, and its own records are numbered behind these.
        self._dispatched = self.next_record
        self._plane.statistics.messages_sent += self._dispatched - number
        for run in runs:
            length = len(run.payloads)
            share = sum(map(len, run.payloads)) // length + RECORD_OVERHEAD_BYTES
            self._held_bytes += share * self._plane.deliver_run(self, run, number, timestamp, share, self)
            number += length
        self.refill(LOCAL_WINDOW_BYTES)  # nothing is pending now; what is held counts from here on
        self.update_credit(LOCAL_WINDOW_BYTES - self._held_bytes)
        self._receipts.acknowledge(self._dispatched)

    @property
    def undelivered(self) -> int:
        """Records that the next loop turn hands to their agents."""
        return self.next_record - self._dispatched

    def answer_large(self, route: Route, payload: bytes, correlation: int) -> None:
        """Any size is the same here, up to what a message may hold anywhere."""
        if self.refuses_answer(route, len(payload), correlation, self._plane.max_message_bytes):
            return
        if route.payloads is None:
            self.open_run(route)
        self.correlations.append(correlation)
        self.append(route, payload)

    async def send_large(self, route: Route, payload: bytes, label: Label | None = None) -> int:
        """Any size is the same here."""
        await self.wait_for_room(len(payload))
        return self.append(route, payload) if label is None else self.append_labelled(route, payload, label)

    def is_acknowledged(self, number: int) -> bool:
        """Whether the record has been handed to its agent."""
        return number < self._dispatched

    async def acknowledged(self, number: int) -> None:
        """Wait until it has."""
        if number < self._dispatched:
            return
        self.check_open()
        await self._receipts.wait(number)

    def credit_wanted(self) -> None:
        """Nothing to ask: the dispatch that is scheduled, or the handlers that hold messages, will make room."""

    def release(self, size: int) -> None:
        """A handler or a queue lets go of ``size`` bytes."""
        self._held_bytes -= size
        self.update_credit(LOCAL_WINDOW_BYTES - self._held_bytes)

    def close(self, error: NetworkError) -> None:
        """Deliver nothing more."""
        super().close(error)
        self._plane.statistics.lost_agent_closed += sum(len(run.payloads) for run in self.take_runs())
        self._receipts.fail(error)
        self._plane.requests.fail(self, error)
