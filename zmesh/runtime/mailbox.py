"""An agent's messages on this node: to its handler, or to whoever iterates over the agent."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import msgspec

from zmesh.model import AgentMessage
from zmesh.runtime.counters import Counters
from zmesh.runtime.eager import EagerStarter
from zmesh.runtime.outbox import Outbox, Route, answer_route
from zmesh.runtime.received import ReceivedMessage
from zmesh.runtime.requests import UNKNOWN_AGENT
from zmesh.wire.data import Kind, encode_failure

__all__ = ["Batch", "Handler", "Keeper", "Mailbox"]

logger = logging.getLogger("zmesh.handlers")

REPLY = Kind.REPLY  # looked up once: it is on the hot path

Handler = Callable[[AgentMessage], "Awaitable[bytes | None] | bytes | None"]


class Keeper(Protocol):
    """Whoever granted the credit that messages in hand use up."""

    def release(self, size: int) -> None:
        """Get ``size`` bytes of it back."""


class Batch(msgspec.Struct, gc=False):
    """Messages of one run on their way to one agent.

    ``share`` is each one's part of the credit in bytes, ``keeper`` gets it back; answers go to ``answers_to``, which is
    None unless these are requests.
    """

    messages: Iterator[ReceivedMessage]
    left: int
    keeper: Keeper
    answers_to: Outbox | None
    share: int
    deadline: float | None  # by the plane's clock
    turn: int = 0  # grows when a handler waits and the rest of the batch goes on without it


class Mailbox:
    """One agent's messages: to its handler, or to whoever iterates over the agent."""

    def __init__(
        self,
        agent_id: int,
        handler: Handler | None,
        starter: EagerStarter,
        statistics: Counters,
        concurrency: int,
        clock: Callable[[], float],
    ) -> None:
        self.agent_id = agent_id
        self._handler = handler
        self._starter = starter
        self._statistics = statistics
        self._concurrency = concurrency
        self._clock = clock
        self._waiting = 0  # handlers that have not returned and go on as tasks
        self._current: Batch | None = None  # the one whose handlers are being started
        self._backlog: deque[Batch] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()
        self._reply_routes: dict[tuple[Outbox, int], Route] = {}
        self._last_reply_route: Route | None = None
        self._always_awaitable = _is_coroutine_function(handler)
        self.closed = False

    @property
    def running(self) -> int:
        """How many handlers have begun and not returned."""
        return self._waiting

    @property
    def queued(self) -> int:
        """How many messages wait for a handler, or to be read."""
        return sum(batch.left for batch in self._backlog)

    def deliver(self, batch: Batch) -> int:
        """Take a batch; how many of its messages are still in hand, to be released one by one later."""
        self._statistics.messages_delivered += batch.left
        if self._handler is None or self._backlog or self._waiting >= self._concurrency:
            self._backlog.append(batch)
            self._wake_reader()
            return batch.left
        return self._start(batch)

    def _start(self, batch: Batch) -> int:
        """Start handlers for a batch; how many of its messages are still in hand."""
        in_hand = 0
        self._current = batch
        while not self._starter.step(self._run(batch)):
            batch.turn += 1
            in_hand += 1
            self._waiting += 1
            if self._waiting >= self._concurrency and not self.closed:
                self._backlog.appendleft(batch)
                batch.left = _length_left(batch)
                self._current = None
                return in_hand + batch.left
        self._current = None
        return in_hand

    async def _run(self, batch: Batch) -> None:
        """Handle what the batch still has, one after the other; ends early once somebody else has gone on with it."""
        handler, always_awaitable = self._handler, self._always_awaitable
        turn, answers_to = batch.turn, batch.answers_to
        if handler is None:
            return
        for message in batch.messages:
            try:
                result = handler(message)
                if always_awaitable or (result is not None and inspect.isawaitable(result)):
                    result = await result  # type: ignore[misc]  # awaitable, as just seen
                if answers_to is not None:
                    self._answer(answers_to, message, result)
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit) as error:
                self._stopped(batch, message, error, turn)
            except BaseException as error:  # noqa: BLE001  # whatever a handler raises is its own, and is told
                self._failed(batch, message, error)
            if batch.turn != turn:
                self._finished(batch)
                return

    def _finished(self, batch: Batch) -> None:
        """A handler that had waited has returned: its credit goes back, and a queued message may start."""
        self._waiting -= 1
        batch.keeper.release(batch.share)
        self._starter.call_soon(self._start_backlog)

    def _start_backlog(self) -> None:
        while self._backlog and self._waiting < self._concurrency and not self.closed and self._handler is not None:
            batch = self._backlog.popleft()
            before, in_hand = batch.left, 0
            if batch.deadline is not None and self._clock() > batch.deadline:
                self._statistics.lost_expired += before
            else:
                in_hand = self._start(batch)
            batch.keeper.release((before - in_hand) * batch.share)

    # -- answers -----------------------------------------------------------------------------------------------------

    def _reply_route(self, outbox: Outbox, to_agent: int, kind: Kind) -> Route:
        route = self._reply_routes.get((outbox, to_agent)) if kind is Kind.REPLY else None
        if route is None:
            route = answer_route(outbox, kind, to_agent, self.agent_id)
            if kind is Kind.REPLY:
                if len(self._reply_routes) >= 4096:
                    self._reply_routes.clear()  # bounded: closed sessions leave entries behind
                self._reply_routes[outbox, to_agent] = route
        return route

    def _answer(self, outbox: Outbox, message: ReceivedMessage, result: object) -> None:
        route = self._last_reply_route
        if route is None or route.outbox is not outbox or route.to_agent != message.from_agent:
            route = self._last_reply_route = self._reply_route(outbox, message.from_agent, REPLY)
        if type(result) is bytes:
            if outbox.closed is None:
                outbox.append_reply(route, message._number, result)
            return
        if result is None:
            result = b""
        else:
            if not isinstance(result, bytes | bytearray | memoryview):
                error = TypeError(f"a handler returns bytes or None, not {type(result).__name__}")
                self._answer_failure(outbox, message, error)
                return
            result = bytes(result)
        if outbox.closed is None:
            outbox.append_reply(route, message._number, result)

    def _answer_failure(self, outbox: Outbox, message: ReceivedMessage, error: BaseException) -> None:
        self._tell_failure(outbox, message, *_described(error))

    def _tell_failure(self, outbox: Outbox, message: ReceivedMessage, error_type: str, error_text: str) -> None:
        if outbox.closed is None:
            payload = encode_failure(error_type, error_text)
            outbox.append_reply(self._reply_route(outbox, message.from_agent, Kind.FAILURE), message._number, payload)

    def _failed(self, batch: Batch, message: ReceivedMessage, error: BaseException) -> None:
        self._statistics.handlers_failed += 1
        if batch.answers_to is not None:
            logger.info("agent %d: the handler of a request raised %r; its requester is told", self.agent_id, error)
            self._answer_failure(batch.answers_to, message, error)
        else:
            logger.error("agent %d: the handler of %r raised", self.agent_id, message, exc_info=error)

    def _stopped(self, batch: Batch, message: ReceivedMessage, error: BaseException, turn: int) -> None:
        """What the handler awaited was cancelled, or its task was, or the program is to end."""
        self._failed(batch, message, error)
        if batch.turn != turn:
            self._finished(batch)
            raise error
        if not isinstance(error, asyncio.CancelledError):
            raise error

    # -- iteration ---------------------------------------------------------------------------------------------------

    def reply(self, message: AgentMessage, payload: bytes) -> bool:
        """Answer a request that was read by iteration; False where there is nobody to answer."""
        if not isinstance(message, ReceivedMessage) or message._answers_to is None:
            return False
        outbox, message._answers_to = message._answers_to, None
        self._answer(outbox, message, payload)
        return True

    async def next_message(self) -> AgentMessage | None:
        """The next message for an iterating reader; None once the agent is closed."""
        while True:
            while self._backlog:
                message = self._take_from(self._backlog[0])
                if message is not None:
                    return message
                self._backlog.popleft()
            if self.closed:
                return None
            reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            await reader

    def _take_from(self, batch: Batch) -> AgentMessage | None:
        for message in batch.messages:
            batch.left -= 1
            batch.keeper.release(batch.share)
            if batch.deadline is not None and self._clock() > batch.deadline:
                self._statistics.lost_expired += 1
                continue
            message._answers_to = batch.answers_to
            return message
        return None

    def _wake_reader(self) -> None:
        while self._readers:
            reader = self._readers.popleft()
            if not reader.done():
                reader.set_result(None)
                return

    def close(self) -> None:
        """Drop what is queued, counting it; requesters are told, readers end."""
        self.closed = True
        if self._current is not None:
            self._drop(self._current)  # it is one of its handlers that closes the agent; the credit is settled there
        for batch in self._backlog:
            batch.keeper.release(self._drop(batch) * batch.share)
        self._backlog.clear()
        while self._readers:
            reader = self._readers.popleft()
            if not reader.done():
                reader.set_result(None)

    def _drop(self, batch: Batch) -> int:
        """Take what is left out of a batch, unhandled; how many messages."""
        rest, answers_to = list(batch.messages), batch.answers_to
        self._statistics.lost_agent_closed += len(rest)
        if answers_to is not None:
            text = f"agent {self.agent_id} was closed before it got to the request"
            for message in rest:
                self._tell_failure(answers_to, message, UNKNOWN_AGENT, text)
        return len(rest)


def _length_left(batch: Batch) -> int:
    """How many messages a batch still has; they stay in it."""
    rest = list(batch.messages)
    batch.messages = iter(rest)
    return len(rest)


def _described(error: BaseException) -> tuple[str, str]:
    """An exception's type and text as its requester is told; the text is the handler's own, and may be broken."""
    error_type = type(error).__name__
    try:
        error_text = str(error)
    except Exception as broken:  # noqa: BLE001  # a handler's exception may do anything when asked for its text
        error_text = f"(its text cannot be had: {type(broken).__name__})"
    # UNKNOWN_AGENT alone means this agent; a handler that raised it meant another one.
    return (f"zmesh.{error_type}" if error_type == UNKNOWN_AGENT else error_type), error_text


def _is_coroutine_function(handler: Handler | None) -> bool:
    if handler is None:
        return False
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
