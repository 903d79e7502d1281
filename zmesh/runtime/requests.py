"""Requests that wait for their answer, and their deadlines.

A request lies in its outbox, by number, and nowhere else: an answer costs one lookup and leaves nothing behind. What
has expired is found by looking through the open requests of an outbox, but only once the earliest deadline since the
last look has passed. In a steady stream that is the deadline of a request answered long ago, so a look, some 50 ns for
each request still open, comes once in a timeout. (A timing wheel, which was here before, cost 300 ns a request.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

from zmesh.errors import HandlerFailed, NetworkError, ProtocolViolation, RequestTimeout, UnknownAgent
from zmesh.model import AgentMessage
from zmesh.runtime.counters import Counters
from zmesh.runtime.outbox import Outbox, Route
from zmesh.runtime.received import ReceivedMessage, received_messages
from zmesh.wire.data import Kind, Run, decode_failure

__all__ = ["UNKNOWN_AGENT", "Requests", "no_answer"]

UNKNOWN_AGENT: Final = "UnknownAgent"  # the error type of a FAILURE from a node that does not have the agent

FAILURE: Final = Kind.FAILURE  # looked up once: it is on the hot path


class Requests:
    """All requests of a node."""

    def __init__(self, loop: asyncio.AbstractEventLoop, statistics: Counters, clock: Callable[[], float]) -> None:
        self._loop = loop
        self.clock = clock
        self.create_future = loop.create_future
        self._statistics = statistics
        self._outboxes: dict[Outbox, None] = {}  # those with a finite ``earliest_deadline``
        # Those that are not on their way yet, with their outbox, or what has become of it.
        self._waiting: dict[asyncio.Timeout, Outbox | NetworkError] = {}

    async def begin(self, route: Route, appending: Awaitable[int], timeout_s: float) -> int:
        """The number of a request that may have to wait for credit first. Raises ``RequestTimeout``, ``PeerLost``."""
        scope = asyncio.timeout(timeout_s)
        self._waiting[scope] = route.outbox
        try:
            async with scope:
                return await appending
        except TimeoutError:
            lost = self._waiting[scope]
            if isinstance(lost, NetworkError):
                raise lost from None
            self._statistics.requests_timed_out += 1
            raise no_answer(route.to_agent, timeout_s) from None
        finally:
            del self._waiting[scope]

    def expect(self, route: Route, number: int, timeout_s: float, spent_s: float = 0.0) -> asyncio.Future[AgentMessage]:
        """The future of the answer to the request numbered ``number``; ``forget`` it where nobody waits any more.

        ``spent_s`` of the ``timeout_s`` have gone by in waiting for credit. It raises ``RequestTimeout``,
        ``HandlerFailed``, ``UnknownAgent`` or ``PeerLost``. ``Agent.request`` has the same written out.
        """
        outbox = route.outbox
        future: asyncio.Future[AgentMessage] = self.create_future()
        deadline = self.clock() + timeout_s - spent_s
        outbox.requests[number] = (future, deadline, route.to_agent, timeout_s)
        if deadline < outbox.earliest_deadline:
            self.watch(outbox, deadline)
        return future

    def watch(self, outbox: Outbox, deadline: float) -> None:
        """A request there ends at ``deadline``, before all others."""
        outbox.earliest_deadline = deadline
        self._outboxes[outbox] = None

    @staticmethod
    def forget(outbox: Outbox, number: int) -> None:
        """Whoever waited for this answer has been cancelled."""
        outbox.requests.pop(number, None)

    def fail(self, outbox: Outbox, error: NetworkError) -> None:
        """No answer is awaited from there any more. One that comes all the same is counted as late."""
        for scope in [scope for scope, waits_for in self._waiting.items() if waits_for is outbox]:
            self._waiting[scope] = type(error)(*error.args)
            if not scope.expired():
                scope.reschedule(self._loop.time())
        requests, outbox.requests = outbox.requests, {}
        for future, *_ in requests.values():
            if not future.done():
                future.set_exception(type(error)(*error.args))

    def expire(self, now: float) -> None:
        """End the requests whose deadline has passed. To be called often: none ends earlier than its deadline."""
        for outbox in [outbox for outbox in self._outboxes if outbox.earliest_deadline <= now]:
            self._expire(outbox, now)

    def _expire(self, outbox: Outbox, now: float) -> None:
        requests = outbox.requests
        for number in [number for number, pending in requests.items() if pending[1] <= now]:
            future, _, to_agent, timeout_s = requests.pop(number)
            if not future.done():
                self._statistics.requests_timed_out += 1
                future.set_exception(no_answer(to_agent, timeout_s))
        outbox.earliest_deadline = min((pending[1] for pending in requests.values()), default=inf)
        if not requests:
            del self._outboxes[outbox]

    def deliver(self, outbox: Outbox, run: Run, first: int, timestamp: int) -> None:
        """Hand a run of answers to whoever waits for them."""
        requests = outbox.requests
        failed = run.kind is FAILURE
        replies = received_messages(run, first, timestamp, outbox.origin)
        for correlation, reply in zip(run.correlations or (), replies, strict=True):
            pending = requests.pop(correlation, None)
            if pending is None or pending[0].done():
                self._statistics.late_replies += 1
            elif failed:
                pending[0].set_exception(_failure(reply))
            else:
                pending[0].set_result(reply)


def no_answer(agent_id: int, timeout_s: float) -> RequestTimeout:
    """What a requester gets when its deadline passes."""
    return RequestTimeout(f"agent {agent_id} did not answer within {timeout_s:g} s")


def _failure(reply: ReceivedMessage) -> NetworkError:
    try:
        error_type, error_text = decode_failure(reply.payload)
    except ProtocolViolation as violation:
        return violation
    if error_type == UNKNOWN_AGENT:
        return UnknownAgent(error_text)
    return HandlerFailed(error_type, error_text, reply.from_agent)
