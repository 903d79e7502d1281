"""A link: the session between this node and one incarnation of a peer, over its DEALER and this node's ROUTER.

The protocol is in ``zmesh.core.delivery``; here its effects meet sockets. A peer that restarts gets a new link; the
old one is closed and reports what was not acknowledged.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from zmesh.core.delivery import BeginAnew, HeldFrame, Resend, SendSession
from zmesh.errors import NetworkError
from zmesh.runtime.large import LargePayloads
from zmesh.runtime.outbox import Label, Outbox, Route
from zmesh.runtime.peer import PeerAddress
from zmesh.runtime.receipts import WaitingReceipts
from zmesh.runtime.received import Origin
from zmesh.runtime.receiving import ReceivingHalf
from zmesh.wire.data import FLAG_ACK_NOW, FLAG_PROBE, FLAG_RESET, FLAG_REWIND, Frame, Run, TopicNote, encode
from zmesh.wire.limits import ATTACHMENT_BYTES, INITIAL_CREDIT_BYTES, WIRE_VERSION

if TYPE_CHECKING:
    from zmesh.runtime.data_plane import DataPlane

__all__ = ["Link"]

logger = logging.getLogger("zmesh.data")

FAREWELL_LINGER_MS: Final = 500


class Link(Outbox):
    """Both directions of a session, and the requests that wait for an answer from the other side."""

    __slots__ = (
        "_ack_wanted",
        "_address",
        "_clock",
        "_has_been_connected",
        "_large",
        "_last_used",
        "_plane",
        "_receipts",
        "_transport",
        "_wall_ns",
        "half",
        "node_id",
        "notes",
        "remote_incarnation",
        "repairs",
        "sending",
        "session",
    )

    def __init__(
        self,
        plane: DataPlane,
        node_id: str,
        remote_incarnation: int,
        session: int,
        address: PeerAddress | None,
        half: ReceivingHalf | None,
    ) -> None:
        super().__init__(
            plane.loop.call_soon,
            INITIAL_CREDIT_BYTES,
            Origin(node_id, ""),
            f"{plane.node_id}:{session:x}:{node_id}:",
        )
        self.origin.outbox = self
        self._plane = plane
        self._clock, self._wall_ns = plane.clock, plane.wall_ns
        self.node_id = node_id
        self.session = session
        self.remote_incarnation = remote_incarnation
        self.half = half if half is not None else ReceivingHalf(0, plane, node_id)
        self._name_origin()
        self.sending = SendSession(INITIAL_CREDIT_BYTES)
        self.notes: list[TopicNote] = []
        self.repairs: list[bytes] = []
        self._address = address
        self._transport = plane.carrier.new_transport(self._on_connected, partial(plane.link_disconnected, self))
        self._receipts = WaitingReceipts(plane.loop)
        self._ack_wanted = False
        self._has_been_connected = False
        self._large = LargePayloads(self, plane)
        self._last_used = self._clock()

    @property
    def remote_session(self) -> int:
        """The peer's sending session; 0 before its first frame, and where the one known is over."""
        return 0 if self.half.is_over else self.half.session

    def adopt(self, remote_session: int) -> None:
        """The peer has begun a sending session; the one before, if there was one, is over."""
        self.half = ReceivingHalf(remote_session, self._plane, self.node_id)
        # A session is never numbered below the incarnation that it is of.
        self.remote_incarnation = max(self.remote_incarnation, remote_session)
        self._name_origin()

    def _name_origin(self) -> None:
        self.origin.id_prefix = f"{self.node_id}:{self.half.session:x}:{self._plane.node_id}:"

    # -- where the peer is -------------------------------------------------------------------------------------------

    def set_address(self, address: PeerAddress | None) -> None:
        """Learn, or change, where the peer listens; None: it is not known any more."""
        if address == self._address:
            return
        self._address = address
        self._transport.close()
        if self.sending.held or self.notes or self.half.state.ack_at is not None:
            self._open()

    def _open(self) -> None:
        self._plane.links.wake(self)
        if self._address is not None and not self._transport.is_open:
            try:
                self._transport.open(self._address.endpoint, self._address.curve_public)
            except OSError as error:  # no descriptors are left, most likely; the next probe tries again
                self._plane.cannot_connect(self.node_id, error)

    def _on_connected(self) -> None:
        for effect in self.sending.connected(self._clock()):
            if isinstance(effect, Resend):
                self._resend(effect.frames)
        self._has_been_connected = True
        self._plane.link_connected(self)
        self._send_bare(0)

    # -- sending -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send all waiting records as one frame."""
        self._flush_scheduled = False
        if self.closed is not None:
            return
        if not self.runs or self.repairs:
            self._flush_bare()
        if self.runs:
            runs = self.take_runs()
            sending = self.sending
            data = self._encode(sending.next_record, runs)
            self._commit(self.next_record - sending.next_record, len(data), (data,))

    def _flush_bare(self) -> None:
        if self.repairs:
            self._send_repairs()
        if self._ack_wanted:
            self._ack_wanted = False
            self._send_probe()
        elif self.notes:
            self._send_bare(0)

    def send_attachment(self, run: Run, attachment: memoryview) -> int:
        """Send a frame of one record whose payload is ``attachment``; the record's number."""
        self.flush()
        number = self.next_record
        self.next_record = number + 1
        header = self._encode(number, [run])
        self._commit(1, len(header) + len(attachment), (header, attachment))
        return number

    def _commit(self, count: int, size: int, parts: tuple[bytes | memoryview, ...]) -> None:
        """Send a frame of ``count`` new records, and hold it; first things first, since its receiver waits."""
        self._last_used = now = self._clock()
        sending = self.sending
        try:
            if not self._transport.send(parts):
                self._open()  # held frames are sent when it stands
        finally:
            sending.commit(now, count, size, parts)
        statistics = self._plane.statistics
        statistics.messages_sent += count
        statistics.frames_sent += 1
        statistics.bytes_sent += size
        self.refill(sending.limit - sending.sent_bytes)

    def _encode(self, first: int, runs: list[Run], flags: int = 0, repairs: list[bytes] | None = None) -> bytes:
        half = self.half
        ack, limit, rewind = half.state.take_ack()
        if rewind:
            flags |= FLAG_REWIND
        if self._ack_wanted and runs:
            self._ack_wanted = False
            flags |= FLAG_ACK_NOW
        notes = None
        if self.notes:
            notes, self.notes = self.notes, []
        now = self._wall_ns() // 1_000_000
        remote = 0 if half.is_over else half.session
        return encode(Frame(WIRE_VERSION, self.session, remote, first, ack, limit, now, flags, runs, notes, repairs))

    def _transmit(self, parts: tuple[bytes | memoryview, ...]) -> bool:
        if not self._transport.is_open:
            self._open()
        return self._transport.send(parts)

    def _resend(self, frames: tuple[HeldFrame, ...]) -> None:
        for frame in frames:
            if not self._transmit(frame.parts):
                return
            self._plane.statistics.frames_resent += self._has_been_connected

    def _send_bare(self, flags: int, first: int = 0) -> None:
        notes = self.notes
        if not self._transmit((self._encode(first, [], flags),)):
            self.notes = notes  # for the next connection; records are held by the session

    def _send_repairs(self) -> None:
        """In frames of their own, each as large as a part may be; what is lost of them is asked for again."""
        repairs, self.repairs = self.repairs, []
        batch: list[bytes] = []
        size = 0
        for repair in repairs:
            if batch and size + len(repair) > ATTACHMENT_BYTES:
                self._transmit((self._encode(0, [], 0, batch),))
                batch, size = [], 0
            batch.append(repair)
            size += len(repair)
        self._transmit((self._encode(0, [], 0, batch),))

    def refuse_session(self, session: int) -> None:
        """Tell the peer that its session went to a process of ours that is no more."""
        header = Frame(WIRE_VERSION, self.session, session, 0, 1, 0, self._plane.wall_ms(), FLAG_RESET, [])
        self._transmit((encode(header),))

    def _send_probe(self) -> None:
        self._plane.statistics.probes_sent += 1
        self._send_bare(FLAG_PROBE, self.sending.next_record)

    def add_note(self, note: TopicNote) -> None:
        """Tell the peer something about a topic, with the next frame."""
        self.notes.append(note)
        self.schedule_flush()

    def add_repair(self, topic_frame: bytes) -> None:
        """Send a published frame again, to this peer alone, with the next frame."""
        self.repairs.append(topic_frame)
        self.schedule_flush()

    def answer_large(self, route: Route, payload: bytes, correlation: int) -> None:
        """Send an answer as attachments."""
        self._large.answer(route, payload, correlation)

    async def send_large(self, route: Route, payload: bytes, label: Label | None = None) -> int:
        """Send a payload as attachments, each when there is credit for it."""
        return await self._large.send(route, payload, label)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive(self, now: float, frame: Frame, size: int, attachment: bytes | memoryview | None) -> bool:
        """Take in a frame that is known to be of this peer's session, and answer what its handlers answer at once.

        False where an ack is still owed for later. Raises ``ProtocolViolation``.
        """
        concerns_us = frame.receiver_session == self.session
        if concerns_us and frame.flags & FLAG_REWIND:
            self._receive_ack(now, frame.ack, frame.limit, True)
            if self.closed is not None:
                return True  # what else is in it will be asked for again
        self._flush_scheduled = True  # ``settle`` flushes
        try:
            self._receive_contents(now, frame, size, attachment)
        finally:
            is_settled = self.settle(now)
        # Last, because nobody waits for it: the answers are on their way.
        is_news = frame.ack != self.sending.acked or frame.limit != self.sending.limit
        if concerns_us and is_news and self.closed is None:
            self._receive_ack(now, frame.ack, frame.limit, False)
        return is_settled

    def _receive_contents(self, now: float, frame: Frame, size: int, attachment: bytes | memoryview | None) -> None:
        flags = frame.flags
        if flags & FLAG_PROBE:
            self.half.state.probed(now, frame.first)
        elif frame.runs:
            if not self.half.receive_records(now, frame, size, attachment, self):
                return  # what else is in it is as old as its records
            if flags & FLAG_ACK_NOW:
                self.half.state.ack_wanted(now)
        if frame.notes is not None or frame.repairs is not None:
            self._plane.receive_topic_notes(self, frame.notes or [], frame.repairs or [])

    def _receive_ack(self, now: float, ack: int, limit: int, rewind: bool) -> None:
        sending = self.sending
        for effect in sending.receive(now, ack, limit, rewind):
            if isinstance(effect, Resend):
                self._resend(effect.frames)
            elif isinstance(effect, BeginAnew):
                self._plane.links.begin_anew(self)
                return
        if self._receipts.waiting:
            self._receipts.acknowledge(ack)
        self.update_credit(sending.limit - sending.sent_bytes)

    # -- time --------------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> bool:
        """After a batch of input: answer what must be answered now. False where an ack is still owed for later."""
        if self.closed is not None:
            return True
        if self.runs or self.notes or self.repairs or self._ack_wanted:
            self.flush()
        self._flush_scheduled = False
        ack_at = self.half.state.ack_at
        if ack_at is None:
            return True
        if now < ack_at:
            return False
        self._plane.statistics.acks_sent += 1
        self._send_bare(0)
        return True

    def handle_timeout(self, now: float) -> bool:
        """Called every few milliseconds from when the link has something to do; whether it still has."""
        if self.sending.handle_timeout(now):
            self._send_probe()
        if self._transport.is_open and self.is_idle() and now - self._last_used > self._plane.idle_link_s:
            self._transport.close()
        return self._transport.is_open or not self.is_idle() or self.sending.next_deadline() is not None

    def is_idle(self) -> bool:
        """Whether nothing waits to be sent or to be acknowledged."""
        return not (self.sending.held or self.runs or self.notes or self._waiters)

    # -- receipts ----------------------------------------------------------------------------------------------------

    def is_acknowledged(self, number: int) -> bool:
        """Whether the record is in the peer's hands."""
        return number < self.sending.acked

    async def acknowledged(self, number: int) -> None:
        """Wait until it is. Raises ``PeerLost`` when the session ends first."""
        if number < self.sending.acked:
            return
        self.check_open()
        self._ack_wanted = True
        self.schedule_flush()
        await self._receipts.wait(number)

    def credit_wanted(self) -> None:
        """Credit is wanted: where no ack is on its way to bring it, ask."""
        self.sending.want_probe(self._clock())
        self._plane.links.wake(self)

    # -- the end -----------------------------------------------------------------------------------------------------

    @property
    def is_reachable(self) -> bool:
        """Whether a connection to the peer stands."""
        return self._transport.is_connected

    @property
    def unacknowledged(self) -> int:
        """Records that are not known to be in the peer's hands."""
        return self.next_record - self.sending.acked

    def leave(self, error: NetworkError) -> None:
        """End the session from this side: the peer gets a last acknowledgement of what it has sent."""
        if self.closed is None and self._transport.is_connected:
            self._send_bare(0)
        self.close(error, FAREWELL_LINGER_MS)

    def close(self, error: NetworkError, linger_ms: int = 0) -> None:
        """End the session: everything not acknowledged is reported to whoever holds a receipt."""
        if self.closed is not None:
            return
        self._plane.statistics.lost_peer_lost += self.unacknowledged
        super().close(error)
        self._receipts.fail(error)
        self._plane.requests.fail(self, error)
        self._transport.close(linger_ms)
