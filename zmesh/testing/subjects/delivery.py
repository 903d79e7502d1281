"""Delivery sessions in the simulator: two nodes, each with both halves of a session, over connections that break.

A node does here what ``zmesh.runtime.link`` does: it commits while there is credit, sends again when a connection
stands, answers when an ack is due. Its user sends bursts; its handlers let go of frames when they like.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from zmesh.core.delivery import HeldFrame, ReceiveSession, Resend, SendSession, Verdict
from zmesh.testing.checkers import Checker
from zmesh.testing.faults import Begin, Fault
from zmesh.testing.host import Host
from zmesh.testing.process import Process
from zmesh.testing.scenario import Draw, Scenario, Settings, names_of
from zmesh.testing.streams import Stream
from zmesh.testing.trial import Subject
from zmesh.testing.world import World

__all__ = ["DeliveryProcess", "DeliverySubject", "Exactly"]

WINDOW_BYTES = 400
INITIAL_BYTES = 200
MAX_SIZE = 150
PAUSES_S = (0.0005, 0.002, 0.02, 0.2, 1.0)  # between two actions of a user or a handler


@dataclass(frozen=True, slots=True)
class Frame:
    """What travels. ``ack``, ``limit`` and ``rewind`` are as of when it was first encoded, though it be sent again."""

    ack: int
    limit: int
    rewind: bool
    probe_below: int = 0
    first: int = 0
    records: tuple[int, ...] = ()
    size: int = 0


@dataclass(slots=True)
class Journal:
    """What a node's user and handlers know, for the checker."""

    sent: list[int] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)
    in_hand: deque[int] = field(default_factory=deque)  # sizes of frames that handlers have
    overdrawn: int = 0


class DeliveryProcess(Process):
    """One end of the link between two nodes."""

    send_session: ClassVar[type[SendSession]] = SendSession
    receive_session: ClassVar[type[ReceiveSession]] = ReceiveSession
    honours_credit: ClassVar[bool] = True

    def __init__(self, host: Host, peer: str) -> None:
        super().__init__(host)
        self.sending = self.send_session(INITIAL_BYTES)
        self.receiving = self.receive_session(WINDOW_BYTES)
        self.journal = Journal()
        self.is_user_active = True
        self._frames: dict[int, Frame] = {}  # by first record, as encoded
        self._chance = host.random("user")
        self._pause_s = self._chance.choice(PAUSES_S)
        self._peer = peer

    # -- inputs --------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Connect, and let the user and the handlers begin."""
        self.stream = Stream(self.host, self._peer, self._connected)
        self.host.after(self._chance.random(), self._act)
        self.host.after(self._chance.random(), self._handle)

    def receive(self, now: float, sender: str, message: Frame) -> None:
        """A frame from the peer."""
        self._apply(self.sending.receive(now, message.ack, message.limit, message.rewind))
        if message.probe_below:
            self.receiving.probed(now, message.probe_below)
        elif message.records:
            verdict = self.receiving.receive(now, message.first, len(message.records), message.size)
            if verdict is Verdict.DELIVER:
                self.journal.delivered.extend(message.records)
                self.journal.in_hand.append(message.size)
                self.host.observe(message.first)
        self._settle(now)

    def handle_timeout(self, now: float) -> None:
        """Probe, acknowledge."""
        if self.sending.handle_timeout(now):
            self._send_bare(probe_below=self.sending.next_record)
        self._settle(now)

    def next_deadline(self) -> float | None:
        """The earlier of the two halves'."""
        first, second = self.sending.next_deadline(), self.receiving.next_deadline()
        return second if first is None else first if second is None else min(first, second)

    def _connected(self, now: float) -> None:
        self._apply(self.sending.connected(now))
        self._send_bare()

    # -- the user and the handlers -------------------------------------------------------------------------------------

    def _act(self) -> None:
        chance = self._chance
        if chance.random() < 0.1:
            self._pause_s = chance.choice(PAUSES_S)
        for _ in range(chance.choice((1, 1, 1, 5)) if self.is_user_active else 0):
            self._commit(chance.randint(1, 3), chance.choice((chance.randint(1, MAX_SIZE), MAX_SIZE)))
        if self.sending.room_bytes <= 0:
            self.sending.want_probe(self.host.now)  # somebody waits for credit, even when all is sent that will be
        self.host.after(chance.expovariate(1.0 / self._pause_s), self._act)

    def _commit(self, count: int, size: int) -> None:
        now, room = self.host.now, self.sending.room_bytes
        if self.honours_credit and room <= 0:
            self.sending.want_probe(now)
            return
        journal = self.journal
        records = tuple(range(len(journal.sent), len(journal.sent) + count))
        journal.sent.extend(records)
        ack, limit, rewind = self.receiving.take_ack()
        held = self.sending.commit(now, count, size, ())
        journal.overdrawn = max(journal.overdrawn, size - room)
        self._frames[held.first] = Frame(ack, limit, rewind, 0, held.first, records, size)
        self.stream.send(self._frames[held.first])

    def _handle(self) -> None:
        in_hand = self.journal.in_hand
        for _ in range(self._chance.randint(1, 4)):
            if in_hand:
                self.receiving.consumed(self.host.now, in_hand.popleft())
        self._settle(self.host.now)
        pause_s = self._pause_s if self.is_user_active else PAUSES_S[1]
        self.host.after(self._chance.expovariate(1.0 / pause_s), self._handle)

    # -- what link.py does ---------------------------------------------------------------------------------------------

    def _send_bare(self, probe_below: int = 0) -> None:
        self.stream.send(Frame(*self.receiving.take_ack(), probe_below))

    def _settle(self, now: float) -> None:
        if self.receiving.ack_due(now):
            self._send_bare()

    def _apply(self, effects: Iterable[object]) -> None:
        for effect in effects:
            if isinstance(effect, Resend):
                self._resend(effect.frames)

    def _resend(self, frames: tuple[HeldFrame, ...]) -> None:
        for held in frames:
            if not self.stream.send(self._frames[held.first]):
                return


class Exactly(Checker):
    """Exactly once, in order, acknowledged when delivered, and never more held than was granted."""

    def __init__(self, world: World, names: list[str]) -> None:
        super().__init__(world)
        self._ends = [world.hosts[name] for name in names]

    def stepped(self) -> None:
        """Judge both directions."""
        one, other = (host.process for host in self._ends)
        if isinstance(one, DeliveryProcess) and isinstance(other, DeliveryProcess):
            self._judge(self._ends[0], one, other)
            self._judge(self._ends[1], other, one)

    def _judge(self, host: Host, node: DeliveryProcess, peer: DeliveryProcess) -> None:
        """After every step, so that it comes to one comparison of each kind: no calls, no sums where nothing is."""
        sent, delivered = node.journal.sent, peer.journal.delivered
        sending, in_hand = node.sending, peer.journal.in_hand
        count, overdrawn = len(delivered), node.journal.overdrawn
        most = MOST_BYTES + overdrawn if overdrawn > 0 else MOST_BYTES
        if count > len(sent) or delivered[-4:] != sent[count - 4 if count > 4 else 0 : count]:
            self.world.fail(host, NOT_ONCE)
        if sending.held and sum([frame.size for frame in sending.held]) > most:
            self.world.fail(host, "holds more for its peer than allowed")
        if sending.sent_bytes > sending.limit + MAX_SIZE:
            self.world.fail(host, "more sent than granted")
        if in_hand and sum(in_hand) > most:
            self.world.fail(host, "the receiver is made to hold more than its window")
        if sending.acked - 1 > count:
            self.world.fail(host, "acknowledged, and not delivered")


MOST_BYTES = max(WINDOW_BYTES, INITIAL_BYTES)
NOT_ONCE = "not exactly once and in order"


def _drop(world: World, fault: Fault) -> Callable[[], None]:
    """A full queue drops single frames of the stream."""
    streams = [stream for name in fault.hosts for stream in world.hosts[name].streams]

    def set_drop(share: float) -> None:
        for stream in streams:
            stream.drop = share

    set_drop(fault.amount)
    return lambda: set_drop(0.0)


class DeliverySubject(Subject):
    """Two nodes with one link."""

    process_class: ClassVar[type[DeliveryProcess]] = DeliveryProcess
    kinds: ClassVar[Mapping[str, Begin]] = {"drop": _drop}
    settings: ClassVar[Settings] = Settings(
        "delivery",
        nodes=2,
        fault_s=60.0,
        settle_s=20.0,
        faults_per_minute=60.0,
        max_drift=0.01,
        draws=(
            Draw("disconnect", 2),
            Draw("drop", 1, (0.1, 5.0), (0.05, 1.0)),
            Draw("cut_out", 1, (0.1, 5.0)),
            Draw("partition", 1, (0.1, 5.0)),
            Draw("clog", 1, (0.1, 3.0)),
            Draw("pause", 1, (0.05, 5.0)),
            Draw("slow", 1, (0.5, 3.0), (0.001, 0.05)),
            Draw("delay", -1, (1.0, 10.0), (0.01, 0.3)),
        ),
    )

    def __init__(self, world: World, scenario: Scenario) -> None:
        super().__init__(world, scenario)
        self.names = names_of(2)

    def build(self) -> None:
        """Start both ends."""
        for name, peer in (self.names, self.names[::-1]):
            self.world.add(name, lambda host, peer=peer: self.process_class(host, peer))  # type: ignore[misc]  # mypy: lambda
        for name in self.names:
            self.world.hosts[name].start()
        self.world.watch(Exactly(self.world, self.names))

    def complaints(self) -> list[str]:
        """What has not arrived, is not acknowledged, or has no credit; from now on nothing new is sent."""
        found = []
        for name, peer in (self.names, self.names[::-1]):
            node, other = self._process(name), self._process(peer)
            node.is_user_active = False
            if node.journal.sent != other.journal.delivered:
                found.append(f"not everything from {name} arrived")
            if node.sending.held:
                found.append(f"not everything from {name} was acknowledged")
            if node.sending.room_bytes <= 0:
                found.append(f"no credit came back to {name}")
        return found

    def _process(self, name: str) -> Any:
        return self.world.hosts[name].process
