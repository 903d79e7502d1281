"""The membership machine in the simulator: its adapter, and a mesh of such nodes.

The adapter does what ``zmesh.runtime.control_members`` and the introductions do: it knows at which address each member
was met, carries messages there, and meets contacts by hello and welcome. As under CURVE, a message for one node is not
read by another that happens to be at its address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import MembershipTimings, contact_of
from zmesh.core.membership.messages import (
    Contact,
    Contacts,
    Introduce,
    MemberEvent,
    MemberEventKind,
    MembershipEffect,
    NodeRecord,
    Notify,
    Report,
    SendControl,
)
from zmesh.testing.checkers import Checker
from zmesh.testing.faults import Begin, Fault
from zmesh.testing.host import Host
from zmesh.testing.process import MachineProcess
from zmesh.testing.scenario import Draw, Settings, names_of
from zmesh.testing.trial import Subject
from zmesh.testing.world import World

__all__ = ["FalseDeaths", "MembershipProcess", "MembershipSubject", "make_record"]

DIAL_TIMEOUT_S = 2.0
SEED_INTERVAL_S = 1.0
GRACE_S = 2.0  # after a fault, and the time that declaring a death takes
PORTS = (7650, 7651, 7652, 7653)


@dataclass(frozen=True, slots=True)
class Hello:
    """Somebody introduces itself; ``node_id`` is whom it expects, "" whoever is there."""

    node_id: str
    contact: Contact
    dial: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """So does who was dialled."""

    contact: Contact
    dial: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Or it will not."""

    dial: int


def make_record(node_id: str, incarnation: int, address: str, version: int = 1) -> NodeRecord:
    """The record of a node at an address of the simulated network."""
    return NodeRecord(node_id, incarnation, version, b"", "machine", (address,), *PORTS)


class MembershipProcess(MachineProcess):
    """One incarnation of a node. Control messages travel as ``(node_id of the receiver, message)``."""

    machine: Membership
    machine_class: type[Membership] = Membership

    def __init__(self, host: Host, timings: MembershipTimings, seeds: Sequence[str] = ()) -> None:
        self.record = make_record(host.identity, host.wall_ms, host.address)
        super().__init__(host, self.machine_class(self.record, timings, host.random("membership")))
        self.node_id = host.identity
        self.routes: dict[str, str] = {}  # node_id -> the address at which it was met
        self.events: list[tuple[float, MemberEvent]] = []  # and when it was told of them
        self.reports: list[Report] = []
        self.seeds = tuple(seeds)  # addresses that are tried until whoever is there is in the view
        self._dials: dict[str, int] = {}  # node_id -> the dial that counts
        self._last_dial = 0

    # -- inputs --------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin, and look for the seeds."""
        super().start(now)
        self._dial_seeds()

    def receive(self, now: float, sender: str, message: Any) -> None:
        """A control message, or a part of an introduction."""
        if type(message) is tuple:
            if message[0] == self.node_id:
                self.perform_all(self.machine.receive(now, sender, message[1]))
        elif isinstance(message, Hello):
            self._greet(now, sender, message)
        elif isinstance(message, Welcome):
            self._welcomed(now, message)
        elif isinstance(message, Refusal):
            self._dial_failed(message.dial)

    def disconnected(self, now: float, peer: str) -> None:
        """A connection closed."""
        self.perform_all(self.machine.disconnected(now, peer))

    def leave(self, now: float) -> None:
        """Say goodbye."""
        self.perform_all(self.machine.leave(now))

    def update(self, now: float, address: str | None = None) -> None:
        """Something new to say of itself: perhaps that it has moved."""
        hosts = self.record.hosts if address is None else (address,)
        self.record = replace(self.record, hosts=hosts, version=self.record.version + 1)
        self.perform_all(self.machine.update_record(now, self.record))

    # -- effects -------------------------------------------------------------------------------------------------------

    def perform(self, effect: MembershipEffect) -> None:
        """Carry out one effect."""
        match effect:
            case SendControl(node_id, message):
                address = self.routes.get(node_id)
                if address is not None:
                    self.host.send(address, (node_id, message))
            case Introduce(contact):
                self.dial(contact.node_id, contact.hosts)
            case Notify(event):
                self.events.append((self.host.now, event))
                self.host.observe(event)
            case Report():
                self.reports.append(effect)
            case _:
                pass

    # -- introductions -------------------------------------------------------------------------------------------------

    def _dial_seeds(self) -> None:
        met = [self.routes.get(node_id) for node_id in self.view()]
        for address in self.seeds:
            if address not in met and address != self.host.address:
                self.dial("", (address,))
        if self.seeds:
            self.host.after(SEED_INTERVAL_S, self._dial_seeds)

    def dial(self, node_id: str, addresses: Sequence[str]) -> None:
        """Introduce this node to whoever is at the addresses: to ``node_id`` alone, unless that is ""."""
        self._last_dial += 1
        dial = self._last_dial
        if node_id:
            self._dials[node_id] = dial
            self.host.after(DIAL_TIMEOUT_S, self._dial_failed, dial)
        for address in addresses:
            self.host.send(address, Hello(node_id, contact_of(self.record), dial))

    def _dial_failed(self, dial: int) -> None:
        for node_id, counts in list(self._dials.items()):
            if counts == dial:
                del self._dials[node_id]
                self.perform_all(self.machine.introduction_failed(self.host.now, node_id))

    def _greet(self, now: float, sender: str, hello: Hello) -> None:
        address = hello.contact.hosts[0]
        if hello.node_id not in ("", self.node_id):
            return
        if self.machine.refuses(hello.contact):
            self.host.send(address, Refusal(hello.dial))
            return
        self.host.send(address, Welcome(contact_of(self.record), hello.dial))
        self.perform_all(self.machine.receive(now, sender, Contacts((hello.contact,))))

    def _welcomed(self, now: float, welcome: Welcome) -> None:
        contact = welcome.contact
        if self._dials.get(contact.node_id, welcome.dial) != welcome.dial:
            return
        self._dials.pop(contact.node_id, None)
        address = contact.hosts[0]
        self.routes[contact.node_id] = address
        self.perform_all(self.machine.introduced(now, replace(contact, hosts=(address, *contact.hosts))))

    # -- questions -----------------------------------------------------------------------------------------------------

    def view(self) -> dict[str, tuple[int, int]]:
        """The living as this node sees them: node_id to (incarnation, version of the record)."""
        return {r.node_id: (r.incarnation, r.version) for r in self.machine.live_records()}

    def kinds(self, node_id: str) -> list[MemberEventKind]:
        """What it was told about a member, in order."""
        return [event.kind for _, event in self.events if event.record.node_id == node_id]


class FalseDeaths(Checker):
    """Nobody is declared dead that had no fault lately, nor any on the way to who declares it."""

    def __init__(self, world: World, timings: MembershipTimings) -> None:
        super().__init__(world)
        self._excused_s = timings.dead_after_s + GRACE_S

    def observed(self, host: Host, observation: Any) -> None:
        """Judge a death."""
        if not isinstance(observation, MemberEvent) or observation.kind is not MemberEventKind.DIED:
            return
        node_id = observation.record.node_id
        dead = self.world.hosts.get(node_id)
        if dead is None or not isinstance(dead.process, MembershipProcess):
            return
        if sum(other.identity == host.identity and other.is_up for other in self.world.hosts.values()) > 1:
            return  # of two nodes with one name neither is healthy
        is_it = dead.process.record.incarnation == observation.record.incarnation
        troubled_at = max(dead.troubled_at, self.world.network.pair_troubled_at(host.name, node_id))
        if is_it and troubled_at < self.world.now - self._excused_s:
            self.world.fail(host, f"declared {node_id} dead, which is healthy")


def _leave(world: World, fault: Fault) -> Callable[[], None]:
    host = world.hosts[fault.hosts[0]]
    if isinstance(host.process, MembershipProcess) and not host.is_paused:
        host.call(host.process.leave)
        host.kill()
    return host.start_again


def _update(world: World, fault: Fault) -> None:
    host = world.hosts[fault.hosts[0]]
    if isinstance(host.process, MembershipProcess):
        host.call(host.process.update)


class MembershipSubject(Subject):
    """A mesh of nodes that know the first of them as seed."""

    timings: ClassVar[MembershipTimings] = MembershipTimings(
        forget_after_s=60.0, redial_interval_s=0.5, redial_interval_max_s=4.0
    )
    kinds: ClassVar[Mapping[str, Begin]] = {"leave": _leave, "update": _update}
    process_class: ClassVar[type[MembershipProcess]] = MembershipProcess
    settings: ClassVar[Settings] = Settings(
        "membership",
        draws=(
            Draw("kill", 1, (0.1, 20.0)),
            Draw("power_off", 1, (0.1, 20.0)),
            Draw("leave", 1, (0.5, 10.0)),
            Draw("update", 1),
            Draw("pause", 1, (0.05, 10.0)),
            Draw("slow", 1, (1.0, 10.0), (0.001, 0.02)),
            Draw("cut_out", 0, (0.5, 15.0)),
            Draw("cut_in", 0, (0.5, 15.0)),
            Draw("partition", 0, (0.5, 20.0)),
            Draw("bridge", 0, (0.5, 20.0)),
            Draw("flap", 1, (1.0, 20.0), (0.2, 5.0)),
            Draw("clog", 1, (0.1, 5.0)),
            Draw("delay", -1, (1.0, 10.0), (0.01, 0.1)),
            Draw("disconnect", 2),
            Draw("step_wall", 1, (0.0, 0.0), (-5.0, 5.0)),
        ),
    )

    def build(self) -> None:
        """Everybody at once, as a script starts them."""
        names = names_of(self.scenario.nodes)
        for name in names:
            self.add(name, names[:1] if name != names[0] else names[1:2])
        self.world.watch(FalseDeaths(self.world, self.timings))

    def add(self, name: str, seeds: Sequence[str]) -> Host:
        """A node, started."""
        host = self.world.add(name, lambda host: self.process_class(host, self.timings, seeds))
        host.start()
        return host

    def complaints(self) -> list[str]:
        """Who does not see exactly those that are there."""
        processes = [host.process for host in self.world.hosts.values()]
        nodes = [process for process in processes if isinstance(process, MembershipProcess)]
        expected = {node.node_id: (node.record.incarnation, node.record.version) for node in nodes}
        return [f"{node.node_id} sees {node.view()}, not {expected}" for node in nodes if node.view() != expected]
