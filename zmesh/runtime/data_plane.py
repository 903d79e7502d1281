"""The data plane: what comes in, the links, and their timers, on the user's loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from zmesh.core.delivery import Belonging, belonging_of
from zmesh.errors import ProtocolViolation
from zmesh.runtime.carrier import Carrier
from zmesh.runtime.counters import Counters
from zmesh.runtime.eager import EagerStarter
from zmesh.runtime.link import Link
from zmesh.runtime.link_table import LinkTable
from zmesh.runtime.lost_property import LostProperty
from zmesh.runtime.mailbox import Batch, Keeper, Mailbox
from zmesh.runtime.outbox import Outbox
from zmesh.runtime.received import received_messages
from zmesh.runtime.requests import Requests
from zmesh.runtime.way_finder import WayFinder
from zmesh.wire.data import FLAG_RESET, Frame, Kind, Run, TopicNote, decode_frame

__all__ = ["DataPlane"]

logger = logging.getLogger("zmesh.data")

OVERSIZE: Final = "oversize_message"
TICK_S: Final = 0.02  # stalled acks and deadlines are looked at this often
ACK_TICK_S: Final = 0.001
REPLY, REQUEST = Kind.REPLY, Kind.REQUEST  # looked up once: they are on the hot path


class DataPlane:
    """Owns one ``Link`` per peer. Everything here runs on the loop's thread."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        carrier: Carrier,
        node_id: str,
        incarnation: int,
        window_bytes: int,
        max_message_bytes: int,
        idle_link_s: float,
        incident: Callable[[str, str, str], object],
        peer_disconnected: Callable[[str], None],
        find: Callable[[str], None],
    ) -> None:
        """``find`` asks for the way to a node; ``LinkTable.set_peer`` is told of it."""
        self.loop = loop
        self.carrier = carrier
        self.clock, self.wall_ns = carrier.clock, carrier.wall_ns
        self.node_id = node_id
        self.incarnation = incarnation
        self.window_bytes = window_bytes
        self.max_message_bytes = max_message_bytes
        self.idle_link_s = idle_link_s
        self.statistics = Counters()
        self.starter = EagerStarter(loop)
        self.mailboxes: dict[int, Mailbox] = {}
        self.ways = WayFinder(find, carrier.clock)
        self.links = LinkTable(self)
        self.requests = Requests(loop, self.statistics, self.clock)
        self.topic_notes: Callable[[Link, list[TopicNote], list[bytes]], None] = lambda link, notes, repairs: None
        self.link_connected: Callable[[Link], None] = lambda link: None
        self._inbound = carrier.new_inbound(self)
        self._incident = incident
        self._peer_disconnected = peer_disconnected
        self._lost_property = LostProperty(node_id, self.statistics)
        self._tasks: dict[asyncio.Task[None], None] = {}  # in order: a simulation repeats itself
        self._unsettled: dict[Link, None] = {}  # links that owe an ack within a millisecond
        self._ack_timer: asyncio.TimerHandle | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self.on_tick: list[Callable[[float], None]] = []

    def start(self) -> None:
        """Begin to read."""
        self._inbound.start()
        self._tick_timer = self.loop.call_later(TICK_S, self._tick)

    async def close(self, closing: asyncio.Task[Any] | None) -> None:
        """End all links and stop handlers, but for that of the task ``closing``, which waits for this."""
        await self.starter.close(closing)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in (self._ack_timer, self._tick_timer):
            if timer is not None:
                timer.cancel()
        self.links.leave()
        self._inbound.close()

    def wall_ms(self) -> int:
        """The wall clock, in ms since the epoch."""
        return self.wall_ns() // 1_000_000

    # -- what links need ---------------------------------------------------------------------------------------------

    def cannot_connect(self, node_id: str, error: Exception) -> None:
        """There is no socket to be had."""
        self._incident("cannot_connect", f"no connection to node {node_id} can be made now: {error}", node_id)

    def link_disconnected(self, link: Link) -> None:
        """Its socket lost the connection: a hint for membership."""
        self._peer_disconnected(link.node_id)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background, until the node leaves at the latest."""
        task = self.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def forget(self, link: Link) -> None:
        """The link was closed."""
        self._unsettled.pop(link, None)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive_frame(self, node_id: str, data: bytes, attachment: bytes | None) -> None:
        """A frame from the peer authenticated as ``node_id``: any buffer. Raises ``ProtocolViolation``."""
        frame = decode_frame(data)
        size = len(data) if attachment is None else len(data) + len(attachment)
        statistics = self.statistics
        statistics.frames_received += 1
        statistics.bytes_received += size
        link = self.links.by_node.get(node_id)
        if link is None or frame.sender_session != link.half.session or frame.flags & FLAG_RESET:
            link = self._link_of(str(node_id), frame)
            if link is None:
                return
        now = self.clock()
        try:
            is_settled = link.receive(now, frame, size, attachment)
        except ProtocolViolation as violation:
            if violation.reason == OVERSIZE:
                link.refuse_session(frame.sender_session)  # it would be sent again and again
            raise
        if not is_settled:
            self.settle_later(link)

    def _link_of(self, node_id: str, frame: Frame) -> Link | None:
        """The link a frame belongs to; None for a frame of a session that is over (docs/spec/03, section 3)."""
        link = self.links.link_for(node_id)
        sender, half = frame.sender_session, link.half
        if frame.flags & FLAG_RESET:
            if frame.receiver_session == link.session:
                half.is_over = half.is_over or half.session < sender
                self.links.begin_anew(link)
            return None
        belonging = belonging_of(link.session, half.session, sender, frame.receiver_session, is_over=half.is_over)
        if belonging is Belonging.CURRENT:
            return link
        if belonging is Belonging.NEWBORN:
            link = self.links.begin_anew(link)
            belonging = Belonging.FIRST
        if belonging is Belonging.FIRST:
            link.adopt(sender)
            return link
        self.statistics.dropped_stale += 1
        if belonging is Belonging.FORGOTTEN:
            link.refuse_session(sender)
        return None

    def refuse(self, node_id: str, violation: ProtocolViolation) -> None:
        """Count a forbidden frame, and say so once."""
        if violation.reason == "wrong_version":
            self.statistics.dropped_wrong_version += 1
        else:
            self.statistics.dropped_malformed += 1
        self._incident(violation.reason, str(violation), node_id)

    # -- delivering --------------------------------------------------------------------------------------------------

    def deliver_run(self, outbox: Outbox, run: Run, first: int, timestamp: int, share: int, keeper: Keeper) -> int:
        """Hand a run to its agent or its requests; how many of its records are still held, ``share`` bytes each.

        Answers go to ``outbox``, and what is held goes back to ``keeper`` as it is let go of.
        """
        if run.kind >= REPLY:
            self.requests.deliver(outbox, run, first, timestamp)
            return 0
        mailbox = self.mailboxes.get(run.to_agent)
        length = len(run.payloads)
        if mailbox is None:
            self._lost_property.take(outbox, run, first)
            return 0
        messages = received_messages(run, first, timestamp, outbox.origin)
        answers_to = outbox if run.kind is REQUEST else None
        deadline = self.clock() + run.ttl_ms / 1000 if run.ttl_ms else None
        return mailbox.deliver(Batch(messages, length, keeper, answers_to, share, deadline))

    def receive_topic_notes(self, link: Link, notes: list[TopicNote], repairs: list[bytes]) -> None:
        """Pass on what a peer says of topics."""
        self.topic_notes(link, notes, repairs)

    # -- time --------------------------------------------------------------------------------------------------------

    def settle_later(self, link: Link) -> None:
        """See to it that the link's ack leaves within a millisecond."""
        self._unsettled[link] = None
        if self._ack_timer is None:
            self._ack_timer = self.loop.call_later(ACK_TICK_S, self._send_acks)

    def _send_acks(self) -> None:
        self._ack_timer = None
        unsettled, self._unsettled = self._unsettled, {}
        now = self.clock()
        for link in unsettled:
            if link.closed is None and not link.settle(now):
                self.settle_later(link)

    def _tick(self) -> None:
        self._tick_timer = self.loop.call_later(TICK_S, self._tick)
        now = self.clock()
        self.requests.expire(now)
        self.links.tick(now)
        for callback in self.on_tick:
            callback(now)
