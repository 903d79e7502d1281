"""Message Passing: point to point, request and reply, groups, broadcast, over links and the local queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final

from zmesh.agent import Agent
from zmesh.arguments import check_agent, check_terms, checked_group, checked_label
from zmesh.core.membership.member import AgentRecord
from zmesh.errors import (
    AgentExists,
    MessageTooLarge,
    NetworkError,
    NotJoined,
    PeerLost,
    UnknownAgent,
    UsageError,
)
from zmesh.health import HealthCheck, HealthMonitor
from zmesh.model import AgentMessage, Capability, MessagePriority, MessageType, is_agent_id
from zmesh.receipt import Receipt
from zmesh.registry import Registry
from zmesh.runtime.data_plane import DataPlane
from zmesh.runtime.local import LocalOutbox
from zmesh.runtime.mailbox import Handler, Mailbox
from zmesh.runtime.outbox import Outbox, Route
from zmesh.runtime.publishing import Publishing
from zmesh.wire.data import Kind
from zmesh.wire.limits import ATTACHMENT_BYTES, INLINE_BYTES

__all__ = ["Messenger"]

logger = logging.getLogger("zmesh.messages")

GROUP_JOIN_TIMEOUT_S: Final = 2.0
MAX_AGENTS: Final = 10_000
SYSTEM_AGENT: Final = 0  # the sender of what the network itself sends


class Messenger:
    """Resolves destinations to routes and owns this node's agents."""

    def __init__(
        self,
        plane: DataPlane,
        publishing: Publishing,
        registry: Registry,
        *,
        request_timeout_s: float,
        handler_concurrency: int,
        agents_changed: Callable[[tuple[AgentRecord, ...]], None],
    ) -> None:
        self._plane = plane
        self._publishing = publishing
        self._registry = registry
        self.local = LocalOutbox(plane)
        self.requests = plane.requests
        self.health = HealthMonitor(self._announce)
        self._agents: dict[int, Agent] = {}
        self._request_timeout_s = request_timeout_s
        self._handler_concurrency = handler_concurrency
        self._agents_changed = agents_changed
        self._left = False

    # -- agents ------------------------------------------------------------------------------------------------------

    def register(
        self,
        agent_id: int,
        capabilities: Sequence[str],
        handler: Handler | None,
        metadata: Mapping[str, str] | None,
        health: HealthCheck | None,
    ) -> Agent:
        """Make an agent of this node. Raises ``AgentExists``, ``UsageError``."""
        check_agent(agent_id, capabilities, handler, metadata, health)
        if agent_id in self._agents:
            raise AgentExists(f"agent {agent_id} is registered on this node already")
        if len(self._agents) >= MAX_AGENTS:
            raise UsageError(f"a node holds at most {MAX_AGENTS} agents")
        plane = self._plane
        mailbox = Mailbox(
            agent_id, handler, plane.starter, plane.statistics, self._handler_concurrency, clock=plane.clock
        )
        self._plane.mailboxes[agent_id] = mailbox
        agent = self._agents[agent_id] = Agent(self, mailbox, capabilities, metadata or {})
        self.health.watch(agent_id, health)
        self._announce()
        return agent

    async def unregister(self, agent_id: int) -> None:
        """Take an agent off the mesh. Raises ``UnknownAgent``."""
        agent = self._agents.pop(agent_id, None)
        if agent is None:
            raise UnknownAgent(f"agent {agent_id} is not registered on this node")
        agent.forget_routes()
        self._publishing.forget_agent(agent_id)
        self._plane.mailboxes.pop(agent_id).close()
        self._announce()
        await self.health.forget(agent_id)

    def check_open(self, agent: Agent) -> None:
        """Raises ``UnknownAgent`` for one that was closed, ``NotJoined`` for one of a network that was left."""
        if self._left:
            raise NotJoined(f"{agent!r} is of a network that was left: join again, and register it again")
        if self._agents.get(agent.agent_id) is not agent:
            raise UnknownAgent(f"{agent!r} was closed: register it again")

    def _announce(self) -> None:
        records = tuple(
            AgentRecord(agent_id, agent.capabilities, agent.metadata, self.health.is_well(agent_id))
            for agent_id, agent in sorted(self._agents.items())
        )
        self._agents_changed(records)
        self.forget_routes()

    def forget_routes(self) -> None:
        """The mesh has changed: every agent resolves its destinations anew."""
        for agent in self._agents.values():
            agent.forget_routes()

    # -- point to point ----------------------------------------------------------------------------------------------

    async def send(
        self,
        agent: Agent,
        to: int | Capability,
        payload: bytes,
        priority: MessagePriority,
        ttl_ms: int,
        message_type: MessageType,
    ) -> Receipt:
        """A send that the hot path of ``Agent.send`` leaves to us: first of its kind, large, or out of credit."""
        data = self._checked(payload)
        is_plain = message_type is MessageType.COMMAND and priority is MessagePriority.NORMAL and not ttl_ms
        while True:
            self.check_open(agent)
            route = agent.plain_route(to) if is_plain else None
            if route is None:
                route = self._route(agent.agent_id, to, Kind.MESSAGE, message_type, priority, ttl_ms)
                if is_plain and isinstance(to, int):
                    agent.remember_route(to, route)
            try:
                return Receipt(route.outbox, await self._append(route, data))
            except PeerLost:
                # A message in one piece has not left: where the agent lives on another incarnation, send it there.
                if self._is_current(route.outbox) or len(data) > ATTACHMENT_BYTES:
                    raise
                agent.forget_routes()

    async def request(
        self, agent: Agent, to: int | Capability, payload: bytes, timeout_s: float | None, priority: MessagePriority
    ) -> AgentMessage:
        """A request that the hot path of ``Agent.request`` leaves to us."""
        self.check_open(agent)
        data = self._checked(payload)
        if timeout_s is None:
            timeout_s = self._request_timeout_s
        elif not 0 < timeout_s < inf:
            raise UsageError(f"timeout_s={timeout_s} must be positive and finite: nothing waits for ever")
        started = self._plane.loop.time()
        route = self._route(agent.agent_id, to, Kind.REQUEST, MessageType.QUERY, priority, 0)
        self._registry.check_alive(route.outbox.origin.node_id)
        if isinstance(to, int) and priority is MessagePriority.NORMAL:
            agent.remember_route(to, route)
        number = await self.requests.begin(route, self._append(route, data), timeout_s)
        spent_s = self._plane.loop.time() - started
        try:
            return await self.requests.expect(route, number, timeout_s, spent_s)
        except asyncio.CancelledError:
            self.requests.forget(route.outbox, number)
            raise

    async def send_message(self, message: AgentMessage) -> Receipt:
        """Send a message its user has made, with its own id and time."""
        data = self._checked(message.payload)
        if message.to_agent is None:
            return await self.publish(message.from_agent, None, data)
        route = self._route(
            message.from_agent, message.to_agent, Kind.MESSAGE, message.message_type, message.priority, message.ttl
        )
        label = checked_label(message)
        if len(data) > INLINE_BYTES:
            number = await route.outbox.send_large(route, data, label)
        else:
            await route.outbox.wait_for_room(len(data))
            number = route.outbox.append_labelled(route, data, label)
        return Receipt(route.outbox, number, message.message_id)

    def reply(self, agent: Agent, message: AgentMessage, payload: bytes) -> None:
        """See ``Agent.reply``."""
        data = self._checked(payload)
        mailbox = self._plane.mailboxes.get(agent.agent_id)
        if mailbox is None or not mailbox.reply(message, data):
            raise UsageError(f"{message!r:.200} is not a request that agent {agent.agent_id} has read and not answered")

    async def _append(self, route: Route, payload: bytes) -> int:
        outbox = route.outbox
        if len(payload) > INLINE_BYTES:
            return await outbox.send_large(route, payload)
        await outbox.wait_for_room(len(payload))
        return outbox.append(route, payload)

    def _route(
        self,
        from_agent: int,
        to: int | Capability,
        kind: Kind,
        message_type: MessageType,
        priority: MessagePriority,
        ttl_ms: int,
    ) -> Route:
        check_terms(from_agent, message_type, priority, ttl_ms)
        agent_id = self._registry.choose(to) if isinstance(to, Capability) else to
        return Route(self._outbox_to(agent_id), kind, agent_id, from_agent, int(message_type), int(priority), ttl_ms)

    def _outbox_to(self, agent_id: int) -> Outbox:
        if not is_agent_id(agent_id):  # 9.0 and True would be found among integers, and no receiver would take them
            raise UnknownAgent(f"an agent is an integer from 0 to 2**64 - 1 or a Capability, unlike {agent_id!r:.100}")
        if agent_id in self._agents:
            return self.local
        node_id = self._registry.home_of(agent_id)
        if node_id is None:
            raise UnknownAgent(f"agent {agent_id!r} is not on any node known to this one")
        return self._plane.links.link_to(node_id, self._registry.incarnation_of(node_id))

    def _is_current(self, outbox: Outbox) -> bool:
        return outbox is self.local or outbox in self._plane.links.all()

    def _checked(self, payload: bytes) -> bytes:
        if type(payload) is not bytes:
            if not isinstance(payload, bytes | bytearray | memoryview):
                raise UsageError(f"a payload is bytes, not {type(payload).__name__}: encode it first")
            payload = bytes(payload)
        if len(payload) > self._plane.max_message_bytes:
            raise MessageTooLarge(f"{len(payload)} bytes, and max_message_bytes is {self._plane.max_message_bytes}")
        return payload

    # -- groups ------------------------------------------------------------------------------------------------------

    async def publish(self, from_agent: int, group: str | None, payload: bytes) -> Receipt:
        """To every other agent of a group, or of the mesh where ``group`` is None."""
        if type(payload) is not bytes:
            payload = self._checked(payload)
        if len(payload) > ATTACHMENT_BYTES:
            raise MessageTooLarge(
                f"{len(payload)} bytes: a published message holds at most {ATTACHMENT_BYTES}; send larger ones"
            )
        publishing = self._publishing
        if not publishing.has_begun:
            await publishing.begin()
        elif group is None and publishing.awaits_subscribers:
            await publishing.wait_for_subscribers()
        topic = publishing.topic(None if group is None else checked_group(group))
        if topic.budget <= 0:
            await topic.wait_for_room(len(payload))
        return Receipt(topic, topic.append(from_agent, payload))

    async def join_group(self, agent: Agent, group: str) -> None:
        """See ``Agent.join_group``."""
        self.check_open(agent)
        feeds = self._publishing.join_group(agent.agent_id, checked_group(group))
        try:
            async with asyncio.timeout(GROUP_JOIN_TIMEOUT_S):
                for feed in feeds:
                    await feed.settled.wait()
        except TimeoutError:
            late = ", ".join(feed.node_id for feed in feeds if not feed.settled.is_set())
            logger.warning(
                "group %r: %s did not confirm within %g s; it is still being asked", group, late, GROUP_JOIN_TIMEOUT_S
            )

    async def leave_group(self, agent: Agent, group: str) -> None:
        """See ``Agent.leave_group``."""
        self.check_open(agent)
        self._publishing.leave_group(agent.agent_id, checked_group(group))

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self, error: NetworkError) -> None:
        """Agents end."""
        self._left = True
        self.forget_routes()
        for mailbox in self._plane.mailboxes.values():
            mailbox.close()
        self._plane.mailboxes.clear()
        self.local.close(error)
