"""The outbox: what a send appends to, and what one flush per loop turn empties.

This is the hot path. ``Agent.send`` touches an outbox's attributes directly, because a method call here would cost as
much as the
rest of the send; the invariants it must keep are written at ``append``, which is the same code as a method.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from math import inf

from zmesh.errors import MessageTooLarge
from zmesh.model import AgentMessage, MessagePriority, MessageType
from zmesh.runtime.received import Origin
from zmesh.runtime.room import Room
from zmesh.wire.data import Kind, Run, encode_failure
from zmesh.wire.limits import ANSWERS_IN_FRAME, FRAME_BYTES, INLINE_BYTES, RECORD_OVERHEAD_BYTES

__all__ = ["Label", "Outbox", "Requests", "Route", "answer_route"]

Label = tuple[str, int]  # the message id and the time (ms since the epoch) that a user gave a message
REPLY = Kind.REPLY  # looked up once: it is on the hot path

# Requests by number: the future of the answer, the monotonic deadline, the agent asked, the timeout in seconds.
Requests = dict[int, tuple[asyncio.Future[AgentMessage], float, int, float]]


class Route:
    """One way of sending: what all records of a run have in common, resolved once and kept while membership stands."""

    __slots__ = ("from_agent", "kind", "message_type", "outbox", "payloads", "priority", "to_agent", "ttl_ms")

    def __init__(
        self, outbox: Outbox, kind: Kind, to_agent: int, from_agent: int, message_type: int, priority: int, ttl_ms: int
    ) -> None:
        self.outbox = outbox
        self.kind = kind
        self.to_agent = to_agent
        self.from_agent = from_agent
        self.message_type = message_type
        self.priority = priority
        self.ttl_ms = ttl_ms
        self.payloads: list[bytes] | None = None  # of the run that is open for this route, if one is


def answer_route(outbox: Outbox, kind: Kind, to_agent: int, from_agent: int) -> Route:
    """The route of answers: ``kind`` is REPLY or FAILURE."""
    return Route(outbox, kind, to_agent, from_agent, MessageType.RESPONSE, MessagePriority.NORMAL, 0)


class Outbox(Room):
    """Records waiting for the next flush, and the credit they may use.

    ``next_record`` is the number the next record gets.
    """

    __slots__ = (
        "_call_soon",
        "_flush_scheduled",
        "_open_route",
        "correlations",
        "earliest_deadline",
        "next_record",
        "origin",
        "receipt_prefix",
        "requests",
        "runs",
    )

    def __init__(
        self, call_soon: Callable[[Callable[[], None]], object], room: int, origin: Origin, receipt_prefix: str
    ) -> None:
        super().__init__(room)
        self._call_soon = call_soon
        self.origin = origin  # of the messages that come from the other side
        self.receipt_prefix = receipt_prefix  # followed by a record's number it is the id of a message sent
        self._flush_scheduled = False
        self._open_route: Route | None = None
        self.runs: list[Run] = []
        self.correlations: list[int] = []
        self.next_record = 1
        self.requests: Requests = {}
        self.earliest_deadline = inf  # no request in ``requests`` ends before it

    def append(self, route: Route, payload: bytes) -> int:
        """Add a record of at most ``INLINE_BYTES``; its number. The caller has seen a positive budget, or overdraws."""
        payloads = route.payloads
        if payloads is None:
            payloads = self.open_run(route)
        payloads.append(payload)
        self.budget -= len(payload) + RECORD_OVERHEAD_BYTES
        number = self.next_record
        self.next_record = number + 1
        if self._base - self.budget > FRAME_BYTES:
            self.flush()
        return number

    def add_numbered(self, route: Route, payload: bytes) -> None:
        """Add a request that is numbered and paid for already.

        It leaves at once where no other waits for an answer. Else others are likely to follow in this loop turn, and a
        frame for itself would cost more than the turn; frames of one request also stay so, each answer waking one task.
        """
        is_alone = not self.requests
        if is_alone:
            self._flush_scheduled = True  # it is flushed here
        payloads = route.payloads
        if payloads is None:
            payloads = self.open_run(route)
        payloads.append(payload)
        if is_alone:
            self.flush()

    def append_reply(self, route: Route, correlation: int, payload: bytes) -> None:
        """Answer the request numbered ``correlation``. Answers overdraw credit: their requester asked for them."""
        size = len(payload)
        if size > INLINE_BYTES:
            self.answer_large(route, payload, correlation)
            return
        payloads = route.payloads
        if payloads is None:
            payloads = self.open_run(route)
        payloads.append(payload)
        self.correlations.append(correlation)
        self.next_record += 1
        self.budget = budget = self.budget - size - RECORD_OVERHEAD_BYTES
        if len(payloads) >= ANSWERS_IN_FRAME or self._base - budget > FRAME_BYTES:
            self.flush()

    def refuses_answer(self, route: Route, size: int, correlation: int, most_bytes: int) -> bool:
        """Whether an answer is too large to be sent; its requester is told so."""
        if size > most_bytes:
            failure = answer_route(self, Kind.FAILURE, route.to_agent, route.from_agent)
            text = f"the answer has {size} bytes, and max_message_bytes is {most_bytes}"
            self.append_reply(failure, correlation, encode_failure(MessageTooLarge.__name__, text))
        return size > most_bytes

    def open_run(self, route: Route) -> list[bytes]:
        """Start a run for ``route`` and end the one before it; the payloads to append to.

        Sees to it that the outbox is flushed in the next loop turn.
        """
        last = self._open_route
        if last is not None:
            last.payloads = None
        payloads: list[bytes] = []
        kind = route.kind
        correlations: list[int] | None = None
        if kind >= REPLY:
            correlations = self.correlations = []
        self.runs.append(
            Run(
                kind,
                route.to_agent,
                route.from_agent,
                route.message_type,
                route.priority,
                route.ttl_ms,
                payloads,
                correlations,
            )
        )
        route.payloads = payloads
        self._open_route = route
        if not self._flush_scheduled:
            self.schedule_flush()
        return payloads

    def end_run(self) -> None:
        """What is appended next starts a run of its own."""
        if self._open_route is not None:
            self._open_route.payloads = None
            self._open_route = None

    def take_runs(self) -> list[Run]:
        """Everything appended since the last time, to be sent."""
        last = self._open_route
        if last is not None:
            last.payloads = None
            self._open_route = None
        runs, self.runs = self.runs, []
        return runs

    def append_labelled(self, route: Route, payload: bytes, label: Label) -> int:
        """As ``append``, for a message whose id and time its user chose: a run of its own."""
        self.open_run(route)
        run = self.runs[-1]
        run.ids, run.timestamps = [label[0]], [label[1]]
        number = self.append(route, payload)
        self.end_run()
        return number

    def schedule_flush(self) -> None:
        """Flush once in the next loop turn, however often this is called before."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._call_soon(self.flush)

    # -- what the two kinds of outbox do differently -------------------------------------------------------------------

    @abstractmethod
    def answer_large(self, route: Route, payload: bytes, correlation: int) -> None:
        """Send an answer of any size."""

    @abstractmethod
    async def send_large(self, route: Route, payload: bytes, label: Label | None = None) -> int:
        """Add a record of any size, a chunk at a time as credit comes; its number."""

    @abstractmethod
    def is_acknowledged(self, number: int) -> bool:
        """Whether the record is in the peer's hands."""

    @abstractmethod
    async def acknowledged(self, number: int) -> None:
        """Wait until it is. Raises ``PeerLost``."""
