"""A small world for the membership machine: a virtual clock, processes, addresses, delays, loss, cuts, pauses.

Everything follows from one seed. A process's inputs arrive as events; while it is paused they wait, as they would in
its socket buffers. Safety is checked at every event: nobody declares a node dead that had no fault lately.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import replace

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import MembershipTimings
from zmesh.core.membership.messages import (
    Contact,
    Contacts,
    ControlMessage,
    Introduce,
    MemberEventKind,
    MembershipEffect,
    NodeRecord,
    Notify,
    Report,
    SendControl,
)

TIMINGS = MembershipTimings(forget_after_s=60.0, redial_interval_s=0.5, redial_interval_max_s=4.0)
DIAL_TIMEOUT_S = 2.0
HANDSHAKE_S = 0.02


def make_record(name: str, incarnation: int, host: str, version: int = 1) -> NodeRecord:
    return NodeRecord(name, incarnation, version, b"", "machine", (host,), 7650, 7651, 7652, 7653)


class Process:
    """One incarnation of a node."""

    def __init__(self, world: World, record: NodeRecord, machine: type[Membership]) -> None:
        self.world = world
        self.record = record
        self.name = record.node_id
        self.machine = machine(record, world.timings, random.Random(world.random.random()))
        self.hosts: dict[str, str] = {}  # node -> the address its link goes to
        self.dials: dict[str, int] = {}  # node -> the dial that counts
        self.is_up = True
        self.paused: list[Callable[[], None]] | None = None
        self.events: list[tuple[float, MemberEventKind, str, int]] = []
        self.reports: list[Report] = []
        self._timer = 0

    @property
    def host(self) -> str:
        return self.record.hosts[0]

    def contact(self) -> Contact:
        return Contact(self.name, self.record.incarnation, self.record.hosts, 7650, "machine")

    def run(self, action: Callable[[], list[MembershipEffect]]) -> None:
        """Feed the machine one input now, or when the pause is over."""
        if not self.is_up:
            return
        if self.paused is not None:
            self.paused.append(lambda: self.run(action))
            return
        for effect in action():
            self._do(effect)
        self._arm()

    def _arm(self) -> None:
        deadline = self.machine.next_deadline()
        self._timer += 1
        if deadline is not None:
            expected = self._timer
            self.world.at(max(deadline, self.world.now), lambda: self._fire(expected))

    def _fire(self, timer: int) -> None:
        if self.paused is not None:
            self.paused.append(lambda: self._fire(timer))
        elif timer == self._timer:
            self.run(lambda: self.machine.handle_timeout(self.world.now))

    def _do(self, effect: MembershipEffect) -> None:
        match effect:
            case SendControl(node_id, message):
                self.world.carry(self, node_id, message)
            case Introduce(contact):
                self.world.introduce(self, contact)
            case Notify(event):
                self.events.append((self.world.now, event.kind, event.record.node_id, event.record.incarnation))
                self.world.check(self, event.kind, event.record)
            case Report():
                self.reports.append(effect)

    def kinds(self, name: str) -> list[str]:
        return [kind.value for _, kind, node, _ in self.events if node == name]

    def view(self) -> dict[str, tuple[int, int]]:
        return {r.node_id: (r.incarnation, r.version) for r in self.machine.live_records()}


class World:
    """The network, the clock, and who is where."""

    def __init__(
        self,
        seed: int,
        *,
        machine: type[Membership] = Membership,
        delay_s: tuple[float, float] = (0.001, 0.03),
        loss: float = 0.0,
        timings: MembershipTimings = TIMINGS,
    ) -> None:
        self.random = random.Random(seed)
        self.machine = machine
        self.timings = timings
        self.delay_s = delay_s
        self.loss = loss
        self.now = 0.0
        self.at_host: dict[str, Process] = {}
        self.nodes: dict[str, Process] = {}
        self.cuts: set[tuple[str, str]] = set()  # one way: (from, to), names of nodes
        self.faults: dict[str, float] = {}  # node -> until when its death may be declared
        self.false_deaths: list[str] = []
        self.carried = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._in_order: dict[tuple[Process, Process], float] = {}
        self._incarnations = itertools.count(1000)

    # -- the clock

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), action))

    def run_until(self, when: float) -> None:
        while self._queue and self._queue[0][0] <= when:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = when

    def run_for(self, seconds: float) -> None:
        self.run_until(self.now + seconds)

    # -- what happens to nodes

    def start(self, name: str, host: str | None = None, seed: str | None = None, incarnation: int = 0) -> Process:
        record = make_record(name, incarnation or next(self._incarnations), host or f"host-{name}")
        process = Process(self, record, self.machine)
        self.nodes[name] = self.at_host[process.host] = process
        process.run(lambda: process.machine.handle_timeout(self.now))
        if seed is not None:
            self._dial_seed(process, f"host-{seed}")
        return process

    def _dial_seed(self, process: Process, host: str) -> None:
        if process.is_up and host not in process.hosts.values():
            if (found := self.at_host.get(host)) is not None and found is not process:
                self.introduce(process, found.contact())
            self.at(self.now + 1.0, lambda: self._dial_seed(process, host))

    def crash(self, name: str, *, is_noticed: bool = True) -> None:
        """End the process. ``is_noticed``: its kernel lives on and closes the connections."""
        process = self.nodes.pop(name)
        process.is_up = False
        if self.at_host[process.host] is process:
            del self.at_host[process.host]
        self.blame(name)
        if is_noticed:
            for other in list(self.nodes.values()):
                if name in other.hosts and (name, other.name) not in self.cuts:
                    self.at(max(self.now, self._in_order.get((process, other), 0.0)), self._hinting(other, name))

    def hint(self, process: Process, name: str) -> None:
        """A connection closes, and the process hears of it."""
        self.at(self.now + self._delay(), self._hinting(process, name))

    def _hinting(self, process: Process, name: str) -> Callable[[], None]:
        return lambda: process.run(lambda: process.machine.disconnected(self.now, name))

    def leave(self, name: str) -> None:
        process = self.nodes[name]
        process.run(lambda: process.machine.leave(self.now))
        self.crash(name)

    def pause(self, name: str) -> None:
        self.nodes[name].paused = []
        self.faults[name] = float("inf")

    def resume(self, name: str) -> None:
        """Go on: what waited is worked off, in whatever order the poll loop finds it."""
        process = self.nodes[name]
        waiting, process.paused = process.paused or [], None
        self.faults[name] = 0.0
        self.blame(name)
        if self.random.random() < 0.5:
            process.run(lambda: process.machine.handle_timeout(self.now))
        for action in waiting:
            action()

    def move(self, name: str, host: str) -> None:
        process = self.nodes[name]
        del self.at_host[process.host]
        process.record = replace(process.record, hosts=(host,), version=process.record.version + 1)
        self.at_host[host] = process
        process.run(lambda: process.machine.update_record(self.now, process.record))

    def update(self, name: str) -> None:
        process = self.nodes[name]
        process.record = replace(process.record, version=process.record.version + 1)
        process.run(lambda: process.machine.update_record(self.now, process.record))

    def cut(self, source: str, target: str) -> None:
        self.cuts.add((source, target))
        self.blame(source, target)

    def heal(self) -> None:
        for source, target in sorted(self.cuts):
            self.blame(source, target)
        self.cuts.clear()

    # -- the network

    def _delay(self) -> float:
        return self.random.uniform(*self.delay_s)

    def carry(self, source: Process, name: str, message: ControlMessage) -> None:
        self.carried += 1
        target = self.at_host.get(source.hosts.get(name, ""))
        if target is None or target.name != name or (source.name, name) in self.cuts:
            return
        if self.random.random() < self.loss:
            return
        when = max(self.now + self._delay(), self._in_order.get((source, target), 0.0))
        self._in_order[(source, target)] = when
        self.at(when, lambda: target.run(lambda: target.machine.receive(self.now, source.name, message)))

    def introduce(self, source: Process, contact: Contact) -> None:
        dial = source.dials[contact.node_id] = next(self._order)
        self.at(self.now + HANDSHAKE_S, lambda: self._hello(source, contact, dial))

    def _hello(self, source: Process, contact: Contact, dial: int) -> None:
        def fail() -> None:
            if source.dials.get(contact.node_id) == dial:
                source.run(lambda: source.machine.introduction_failed(self.now, contact.node_id))

        target = next((self.at_host[host] for host in contact.hosts if host in self.at_host), None)
        names = (source.name, contact.node_id)
        cut = names in self.cuts or names[::-1] in self.cuts
        if target is None or target.name != contact.node_id or cut or target.paused is not None:
            self.at(self.now + DIAL_TIMEOUT_S, fail)
        elif target.machine.refuses(source.contact()):
            fail()
        else:
            target.run(lambda: target.machine.receive(self.now, source.name, Contacts((source.contact(),))))
            self.at(self.now + self._delay(), lambda: self._welcome(source, target, dial))

    def _welcome(self, source: Process, target: Process, dial: int) -> None:
        if source.dials.get(target.name) != dial or not target.is_up:
            return
        source.hosts[target.name] = target.host
        contact = replace(target.contact(), hosts=(target.host, *target.record.hosts))
        source.run(lambda: source.machine.introduced(self.now, contact))

    # -- judgement

    def blame(self, *names: str) -> None:
        """These had a fault now: for a while their deaths may be declared, and they may declare each other's."""
        for name in names:
            if self.faults.get(name) != float("inf"):
                self.faults[name] = self.now + self.timings.dead_after_s + 2.0

    def check(self, observer: Process, kind: MemberEventKind, record: NodeRecord) -> None:
        subject = self.nodes.get(record.node_id)
        if kind is not MemberEventKind.DIED or subject is None or subject.record.incarnation != record.incarnation:
            return
        pair = (observer.name, record.node_id)
        is_cut = pair in self.cuts or pair[::-1] in self.cuts
        if not is_cut and self.faults.get(record.node_id, -1.0) < self.now:
            self.false_deaths.append(f"{self.now:.2f}: {observer.name} declared {record.node_id} dead")

    def expected_view(self) -> dict[str, tuple[int, int]]:
        return {name: (p.record.incarnation, p.record.version) for name, p in sorted(self.nodes.items())}

    def disagreements(self) -> list[str]:
        expected = self.expected_view()
        return [
            f"{name} sees {dict(sorted(process.view().items()))}, not {expected}"
            for name, process in sorted(self.nodes.items())
            if process.view() != expected
        ]
