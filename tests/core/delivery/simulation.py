"""Two nodes, each with both halves of a session, over connections that break and lose, under a virtual clock.

A node does here what ``zmesh.runtime.link`` does: it commits while there is credit, resends when a connection stands,
answers when an ack is due. A connection is a queue in each direction; one that breaks loses any suffix of what is
under way, and what had arrived before may still be read after the first frames of its successor, as ZeroMQ's fair
queueing does it. ``World`` checks what must hold at every step.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from zmesh.core.delivery import HeldFrame, ReceiveSession, Resend, SendSession, Verdict

WINDOW_BYTES = 400
INITIAL_BYTES = 200
MAX_SIZE = 150


def demand(condition: object, what: str) -> None:
    """As ``assert``, which ``python -O`` would strip: this module is none of pytest's."""
    if not condition:
        raise AssertionError(what)


@dataclass(frozen=True)
class Header:
    """The part of a frame that changes each time one is encoded; a frame sent again carries its old one."""

    ack: int
    limit: int
    rewind: bool
    probe_below: int = 0


@dataclass(frozen=True)
class SimFrame:
    header: Header
    first: int = 0
    records: tuple[int, ...] = ()
    size: int = 0


@dataclass
class Node:
    sending: SendSession
    receiving: ReceiveSession
    sent: list[int] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)
    in_hand: deque[int] = field(default_factory=deque)  # sizes that handlers have not let go of
    frames: dict[int, SimFrame] = field(default_factory=dict)  # by first record, as encoded
    overdrawn: int = 0
    probes: int = 0


class Pipes:
    """One direction: at most one connection, and what had arrived over earlier ones."""

    def __init__(self) -> None:
        self.queues: list[deque[SimFrame]] = []
        self.is_connected = False
        self.is_noticed = False  # the sender's monitor has said so

    def put(self, frame: SimFrame) -> bool:
        if self.is_connected:
            self.queues[-1].append(frame)
        return self.is_connected

    def connect(self) -> None:
        self.queues = [queue for queue in self.queues if queue]
        self.queues.append(deque())
        self.is_connected, self.is_noticed = True, False

    def break_(self, arrived: int) -> None:
        if self.is_connected:
            queue = self.queues[-1]
            while len(queue) > arrived:
                queue.pop()
        self.is_connected = self.is_noticed = False


class World:
    """Nodes 0 and 1; what node ``n`` sends goes into ``pipes[n]``."""

    send_session: type[SendSession] = SendSession
    receive_session: type[ReceiveSession] = ReceiveSession
    honours_credit = True

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes = [
            Node(self.send_session(INITIAL_BYTES), self.receive_session(WINDOW_BYTES)),
            Node(self.send_session(INITIAL_BYTES), self.receive_session(WINDOW_BYTES)),
        ]
        self.pipes = [Pipes(), Pipes()]
        self._next_record = 0

    # -- what users and handlers do ----------------------------------------------------------------------------------

    def send(self, index: int, count: int, size: int) -> bool:
        """Commit and transmit a frame if there is credit for one."""
        node = self.nodes[index]
        room = node.sending.room_bytes
        if self.honours_credit and room <= 0:
            node.sending.want_probe(self.now)
            return False
        records = tuple(range(self._next_record, self._next_record + count))
        self._next_record += count
        header = self._header(node)
        held = node.sending.commit(self.now, count, size, ())
        node.overdrawn = max(node.overdrawn, size - room)
        node.frames[held.first] = SimFrame(header, held.first, records, size)
        node.sent.extend(records)
        self.pipes[index].put(node.frames[held.first])
        self.check()
        return True

    def consume(self, index: int) -> bool:
        """A handler lets go of the oldest frame it has."""
        node = self.nodes[index]
        if not node.in_hand:
            return False
        node.receiving.consumed(self.now, node.in_hand.popleft())
        self.check()
        return True

    # -- what the network does ---------------------------------------------------------------------------------------

    def connect(self, index: int) -> None:
        if not self.pipes[index].is_connected:
            self.pipes[index].connect()

    def notice(self, index: int) -> None:
        """The sender learns that its connection stands."""
        pipe = self.pipes[index]
        if pipe.is_connected and not pipe.is_noticed:
            pipe.is_noticed = True
            self._apply(index, self.nodes[index].sending.connected(self.now))
            self._send_bare(index)

    def break_(self, index: int, arrived: int) -> None:
        self.pipes[index].break_(arrived)

    def lose(self, index: int, position: int) -> None:
        """A frame vanishes though the connection stands: its receiver would not have it."""
        for queue in self.pipes[index].queues:
            if queue:
                del queue[-1 - position % len(queue)]

    def deliver(self, index: int, which: int) -> bool:
        """The receiver reads the oldest frame of one of its pipes."""
        queues = [queue for queue in self.pipes[index].queues if queue]
        if not queues:
            return False
        self._receive(1 - index, queues[which % len(queues)].popleft())
        self._settle(1 - index)
        self.check()
        return True

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for index, node in enumerate(self.nodes):
            if node.sending.handle_timeout(self.now):
                node.probes += 1
                self._send_bare(index, probe_below=node.sending.next_record)
            self._settle(index)
        self.check()

    # -- what link.py does -------------------------------------------------------------------------------------------

    def _header(self, node: Node, probe_below: int = 0) -> Header:
        return Header(*node.receiving.take_ack(), probe_below)

    def _send_bare(self, index: int, probe_below: int = 0) -> None:
        self.pipes[index].put(SimFrame(self._header(self.nodes[index], probe_below)))

    def _apply(self, index: int, effects: tuple[object, ...]) -> None:
        for effect in effects:
            if isinstance(effect, Resend):
                self._resend(index, effect.frames)

    def _resend(self, index: int, frames: tuple[HeldFrame, ...]) -> None:
        for held in frames:
            if not self.pipes[index].put(self.nodes[index].frames[held.first]):
                return

    def _receive(self, index: int, frame: SimFrame) -> None:
        node, header = self.nodes[index], frame.header
        self._apply(index, node.sending.receive(self.now, header.ack, header.limit, header.rewind))
        if header.probe_below:
            node.receiving.probed(self.now, header.probe_below)
        elif frame.records:
            verdict = node.receiving.receive(self.now, frame.first, len(frame.records), frame.size)
            if verdict is Verdict.DELIVER:
                node.delivered.extend(frame.records)
                node.in_hand.append(frame.size)

    def _settle(self, index: int) -> None:
        if self.nodes[index].receiving.ack_due(self.now):
            self._send_bare(index)

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        for index, node in enumerate(self.nodes):
            peer = self.nodes[1 - index]
            demand(peer.delivered == node.sent[: len(peer.delivered)], "not exactly once and in order")
            held = sum(frame.size for frame in node.sending.held)
            most = max(WINDOW_BYTES, INITIAL_BYTES) + max(node.overdrawn, 0)
            demand(held <= most, f"holds {held} bytes for its peer, {most} allowed")
            demand(node.sending.sent_bytes <= node.sending.limit + MAX_SIZE, "more sent than granted")
            demand(sum(peer.in_hand) <= most, "the receiver is made to hold more than its window")
            demand(node.sending.acked - 1 <= len(peer.delivered), "acknowledged, and not delivered")

    def heal(self, seconds: float = 20.0) -> None:
        """Connect everything, let handlers work, and demand that everything arrives within ``seconds``."""
        for index in (0, 1):
            self.connect(index)
            self.notice(index)
        end = self.now + seconds
        while self.now < end:
            while any(self.deliver(index, 0) or self.consume(index) for index in (0, 1)):
                pass
            deadlines = [
                at
                for node in self.nodes
                for at in (node.sending.next_deadline(), node.receiving.next_deadline())
                if at is not None
            ]
            if not deadlines:
                break
            self.advance(max(min(deadlines) - self.now, 0.0))
        for index, node in enumerate(self.nodes):
            demand(self.nodes[1 - index].delivered == node.sent, "not everything arrived after all faults were healed")
            demand(not node.sending.held, "not everything was acknowledged after all faults were healed")
            demand(node.sending.room_bytes > 0, "no credit came back after all faults were healed")
