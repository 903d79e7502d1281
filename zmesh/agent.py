"""The handle of an agent: what its owner sends, asks, publishes and hears with."""

from __future__ import annotations

from asyncio import CancelledError, Future
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from zmesh.model import AgentMessage, Capability, MessagePriority, MessageType
from zmesh.receipt import Receipt
from zmesh.wire.data import Kind
from zmesh.wire.limits import INLINE_BYTES, RECORD_OVERHEAD_BYTES

if TYPE_CHECKING:
    from zmesh.messenger import Messenger
    from zmesh.runtime.mailbox import Mailbox
    from zmesh.runtime.outbox import Route

__all__ = ["Agent"]

_NORMAL: Final = MessagePriority.NORMAL
_COMMAND: Final = MessageType.COMMAND


class Agent:
    """An addressable actor on this node, made by ``AgentNetwork.register_agent``.

    Without a handler, iterate: ``async for message in agent``, and answer requests with ``await agent.reply(message,
    ...)``.
    """

    def __init__(
        self, messenger: Messenger, mailbox: Mailbox, capabilities: Sequence[str], metadata: Mapping[str, str]
    ) -> None:
        self.agent_id = mailbox.agent_id
        self.capabilities = tuple(capabilities)
        self.metadata = dict(metadata)
        self._messenger = messenger
        self._mailbox = mailbox
        self._routes: dict[object, Route] = {}  # of plain sends, by destination; emptied when the mesh changes
        self._request_routes: dict[object, Route] = {}  # the same of requests
        self._requests = messenger.requests

    async def send(
        self,
        to: int | Capability,
        payload: bytes = b"",
        *,
        priority: MessagePriority = _NORMAL,
        ttl_ms: int = 0,
        message_type: MessageType = _COMMAND,
    ) -> Receipt:
        """Send ``payload`` to an agent, or to one of those with a capability.

        Returns when the message is on its way; waits only while the receiver has granted no credit. The receipt tells
        when the receiving node has it. Raises ``UnknownAgent`` at once where nobody knows the destination,
        ``MessageTooLarge``,
        ``PeerLost`` when the node is lost while this waits, ``NotJoined``.
        """
        # The hot path. It is ``Outbox.append`` written out: the call would cost as much as the work
        # (docs/performance.md).
        if to in self._routes and priority is _NORMAL and not ttl_ms and message_type is _COMMAND:
            route = self._routes[to]
            outbox = route.outbox
            budget = outbox.budget
            if budget > 0 and type(payload) is bytes and (size := len(payload)) <= INLINE_BYTES:
                payloads = route.payloads
                if payloads is None:
                    payloads = outbox.open_run(route)
                payloads.append(payload)
                outbox.budget = budget - size - RECORD_OVERHEAD_BYTES
                number = outbox.next_record
                outbox.next_record = number + 1
                return Receipt(outbox, number)
        return await self._messenger.send(self, to, payload, priority, ttl_ms, message_type)

    async def request(
        self,
        to: int | Capability,
        payload: bytes = b"",
        *,
        timeout_s: float | None = None,
        priority: MessagePriority = _NORMAL,
    ) -> AgentMessage:
        """Ask an agent, or one of those with a capability, and wait for its answer.

        ``timeout_s`` defaults to ``NetworkConfig.request_timeout_s``. Raises ``RequestTimeout``, ``HandlerFailed`` with
        what was raised, ``UnknownAgent``, ``MessageTooLarge``, ``NotJoined``; ``PeerLost`` once the node counts dead.
        """
        # A hot path as well: one coroutine deep, and nothing awaited but the answer.
        route = self._request_routes.get(to)
        if (
            route is None
            or timeout_s is None
            or not 0 < timeout_s < inf
            or priority is not _NORMAL
            or (budget := (outbox := route.outbox).budget) <= 0
            or type(payload) is not bytes
            or (size := len(payload)) > INLINE_BYTES
        ):
            return await self._messenger.request(self, to, payload, timeout_s, priority)
        number = outbox.next_record
        outbox.next_record = number + 1
        outbox.budget = budget - size - RECORD_OVERHEAD_BYTES
        outbox.add_numbered(route, payload)
        requests = self._requests
        future: Future[AgentMessage] = requests.create_future()
        deadline = requests.clock() + timeout_s
        outbox.requests[number] = (future, deadline, route.to_agent, timeout_s)
        if deadline < outbox.earliest_deadline:
            requests.watch(outbox, deadline)
        try:
            return await future
        except CancelledError:
            requests.forget(outbox, number)
            raise

    async def reply(self, message: AgentMessage, payload: bytes = b"") -> None:
        """Answer a request that was read by iterating over this agent. Raises ``UsageError`` for any other message."""
        self._messenger.reply(self, message, payload)

    async def publish(self, group: str, payload: bytes) -> Receipt:
        """Send to every agent that has joined ``group``, wherever it is; not to this one."""
        self._messenger.check_open(self)
        return await self._messenger.publish(self.agent_id, group, payload)

    async def broadcast(self, payload: bytes) -> Receipt:
        """Send to every agent of the mesh; not to this one."""
        self._messenger.check_open(self)
        return await self._messenger.publish(self.agent_id, None, payload)

    async def join_group(self, group: str) -> None:
        """Hear what is published to ``group``; returns when every node known now will send it here."""
        await self._messenger.join_group(self, group)

    async def leave_group(self, group: str) -> None:
        """Hear it no more."""
        await self._messenger.leave_group(self, group)

    def __aiter__(self) -> Agent:
        return self

    async def __anext__(self) -> AgentMessage:
        message = await self._mailbox.next_message()
        if message is None:
            raise StopAsyncIteration
        return message

    async def close(self) -> None:
        """Take the agent off the mesh; what waits in its queue is dropped and counted. A second call does nothing."""
        if not self._mailbox.closed:
            await self._messenger.unregister(self.agent_id)

    def plain_route(self, to: int | Capability) -> Route | None:
        """The route of plain sends to ``to``, where it is known and open."""
        route = self._routes.get(to)
        return route if route is not None and route.outbox.closed is None else None

    def forget_routes(self) -> None:
        """The mesh has changed: resolve destinations anew."""
        self._routes.clear()
        self._request_routes.clear()

    def remember_route(self, to: int, route: Route) -> None:
        """Send to, or ask, agent ``to`` along ``route`` from now on, where nothing special is wanted."""
        routes = self._routes if route.kind is Kind.MESSAGE else self._request_routes
        routes[to] = route

    def __repr__(self) -> str:
        return f"Agent({self.agent_id}, capabilities={list(self.capabilities)})"
