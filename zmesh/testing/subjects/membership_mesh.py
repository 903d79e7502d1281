"""A simulated mesh of membership machines: the adapter of a node, what all share, and signatures that cost little."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import Contact
from zmesh.core.membership.messages import (
    Body,
    Knock,
    KnockOutcome,
    MembershipEffect,
    NotifyMember,
    NotifyRecord,
    ReportIncident,
    Send,
    SendAll,
)
from zmesh.core.membership.settings import MembershipSettings
from zmesh.core.membership.statements import Alive, Statement
from zmesh.core.membership.view import ViewStore
from zmesh.testing.host import Host
from zmesh.testing.process import MachineProcess
from zmesh.testing.subjects.membership_sizes import frame_bytes
from zmesh.testing.world import World

__all__ = ["MembershipMesh", "MembershipProcess", "Seals", "SimulatedNotary"]

PORT = 7650
SEED_INTERVAL_S = 1.0
ROUND_TRIP_S = 0.003
MAX_CHECKED = 1 << 20


class Seals:
    """The signatures of a simulation: as good as real ones against nodes that sign in their own name alone."""

    def __init__(self) -> None:
        self._checked: dict[bytes, Statement] = {}  # that a statement is sound is a fact about it, found out once

    def seal(self, node_id: str, payload: bytes) -> bytes:
        """The signature of that node."""
        return hashlib.blake2b(payload, key=node_id.encode()[:64], digest_size=64).digest()

    def is_sound(self, author: Alive, statement: Statement) -> bool:
        """Whether that node signed it."""
        if self._checked.get(statement.signature) is statement:
            return True
        is_sound = statement.signature == self.seal(author.node_id, statement.payload())
        if is_sound and len(self._checked) < MAX_CHECKED:
            self._checked[statement.signature] = statement
        return is_sound


class SimulatedNotary:
    """One node's key."""

    def __init__(self, seals: Seals, node_id: str) -> None:
        self._seals = seals
        self._node_id = node_id

    def sign(self, payload: bytes) -> bytes:
        """This node's signature."""
        return self._seals.seal(self._node_id, payload)

    def verify(self, author: Alive, statement: Statement) -> bool:
        """Whether ``author`` signed that."""
        return self._seals.is_sound(author, statement)


class MembershipMesh:
    """What the nodes of one simulation share."""

    def __init__(
        self,
        world: World,
        settings: MembershipSettings,
        *,
        machine_class: type[Membership] = Membership,
        is_observed: bool = True,
    ) -> None:
        self.world = world
        self.settings = settings
        self.machine_class = machine_class
        self.is_observed = is_observed
        self.seals = Seals()
        self.seeds: dict[str, tuple[str, ...]] = {}
        self.store = ViewStore(settings.near_size, remembered=256)
        self.dark: set[str] = set()  # hosts without power, whose kernel answers nobody
        self.certificate = b""  # everybody's: the notary of a simulation needs none
        self.record_of: Callable[[str], bytes] = lambda node_id: b"the record of " + node_id.encode()
        self.verify_s = 0.0  # what checking one statement of life costs a process; 0.0: nothing
        self.size_of: Callable[[Any], int] = frame_bytes
        self.told: list[tuple[float, str, NotifyMember]] = []  # true time, who was told, what
        self.reports: list[tuple[str, ReportIncident]] = []

    def add(self, name: str, seeds: Sequence[str] = (), *, identity: str | None = None) -> Host:
        """A node, not started. ``seeds`` are addresses."""
        self.seeds[name] = tuple(seeds)
        return self.world.add(name, lambda host: MembershipProcess(host, self, self.seeds[name]), identity=identity)

    def add_seeds(self, name: str, seeds: Sequence[str]) -> None:
        """From its next start on, that node looks for others there."""
        self.seeds[name] = tuple(seeds)

    def start(self, name: str, seeds: Sequence[str] = (), *, identity: str | None = None) -> Host:
        """A node, started."""
        host = self.add(name, seeds, identity=identity)
        host.start()
        return host

    def start_joined(self, names: Sequence[str]) -> None:
        """Many nodes that know each other already."""
        hosts = [self.add(name) for name in names]
        processes = [host.start() for host in hosts]
        nodes = [process for process in processes if isinstance(process, MembershipProcess)]
        view = self.store.changed(None, [node.machine.own for node in nodes], [])
        for node in nodes:
            node.machine.start_in(view)
            node.host.arm()

    def nodes(self) -> list[MembershipProcess]:
        """Those that run, in the order in which their hosts were added."""
        return [h.process for h in self.world.hosts.values() if isinstance(h.process, MembershipProcess)]

    def node(self, name: str) -> MembershipProcess:
        """The process on that host."""
        process = self.world.hosts[name].process
        if not isinstance(process, MembershipProcess):
            raise LookupError(f"{name} is down")
        return process

    def notary(self, node_id: str) -> SimulatedNotary:
        """The key of a node."""
        return SimulatedNotary(self.seals, node_id)

    def knock(self, host: Host, address: str) -> tuple[float, KnockOutcome]:
        """After how long a bare connection from that host comes to what."""
        network = self.world.network
        target = network.at_address.get(address)
        is_cut = target is None or network.is_cut(host.name, target.name) or network.is_cut(target.name, host.name)
        if is_cut or target is None or target.name in self.dark:
            return self.settings.knock_wait_s, KnockOutcome.SILENT
        return ROUND_TRIP_S, KnockOutcome.OPEN if target.is_up else KnockOutcome.REFUSED

    def complaints(self) -> list[str]:
        """Who does not have exactly those that run in its view."""
        nodes = self.nodes()
        expected = {node.node_id: node.incarnation for node in nodes}
        return [f"{node.node_id}: {node.tell_apart(expected)}" for node in nodes if not node.sees(expected)]


class MembershipProcess(MachineProcess):
    """One incarnation of a node."""

    machine: Membership

    def __init__(self, host: Host, mesh: MembershipMesh, seeds: Sequence[str] = ()) -> None:
        self.mesh = mesh
        self.node_id = host.identity
        self.incarnation = host.new_incarnation()
        contact = Contact(self.node_id, self.incarnation, (host.address,), PORT, "")
        own = Alive(contact, 0, 1, b"", mesh.certificate)
        notary, record = mesh.notary(self.node_id), mesh.record_of(self.node_id)
        super().__init__(
            host, mesh.machine_class(own, mesh.settings, notary, host.random("membership"), mesh.store, record)
        )
        self.records: dict[str, bytes] = {}  # as told of, by node
        self._seeds = tuple(seeds)
        self._placed: tuple[tuple[Contact, ...], int, list[str]] = ((), 0, [])
        self._address_of = mesh.world.network.at_address

    def start(self, now: float) -> None:
        """Begin, and look for the seeds."""
        super().start(now)
        self._meet_seeds()

    def receive(self, now: float, sender: str, message: Any) -> None:
        """A message; it may cost the checking of signatures."""
        if self.mesh.verify_s and isinstance(message, Body):
            self.host.spend(self.mesh.verify_s * len(message.alive))
        for effect in self.machine.receive(now, sender, message):
            self.perform(effect)

    def perform(self, effect: MembershipEffect) -> None:
        """Carry out one effect."""
        if type(effect) is SendAll:
            self.host.send_all(self._places(effect.to), effect.message, self.mesh.size_of(effect.message))
        elif type(effect) is Send:
            if self._is_there(effect.to):
                self.host.send(effect.to.hosts[0], effect.message, self.mesh.size_of(effect.message))
        elif isinstance(effect, Knock):
            wait_s, outcome = self.mesh.knock(self.host, effect.to.hosts[0])
            self.host.after(wait_s, self._knocked, effect.to.node_id, outcome)
        elif isinstance(effect, NotifyMember):
            self.mesh.told.append((self.host.world.now, self.node_id, effect))
            if self.mesh.is_observed:
                self.host.observe(effect)
        elif isinstance(effect, NotifyRecord):
            self.records[effect.alive.node_id] = effect.record
        elif isinstance(effect, ReportIncident):
            self.mesh.reports.append((self.node_id, effect))

    def _is_there(self, contact: Contact) -> bool:
        """Where another node is at the address than the one meant, its key does not fit."""
        host = self._address_of.get(contact.hosts[0])
        return host is not None and host.identity == contact.node_id

    def _places(self, contacts: tuple[Contact, ...]) -> list[str]:
        """The addresses of those that are there; looked up again when these are others, or a host has moved."""
        if contacts is not self._placed[0] or self.mesh.world.network.moves != self._placed[1]:
            addresses = [contact.hosts[0] for contact in contacts if self._is_there(contact)]
            self._placed = (contacts, self.mesh.world.network.moves, addresses)
        return self._placed[2]

    def disconnected(self, now: float, peer: str) -> None:
        """A connection closed."""
        self.perform_all(self.machine.disconnected(now, peer))

    def leave(self, now: float) -> None:
        """Say goodbye."""
        self.perform_all(self.machine.leave(now))

    def update(self, now: float, record: bytes = b"new") -> None:
        """Something new to say of itself."""
        self.perform_all(self.machine.restate(now, record=record))

    def move(self, now: float, address: str) -> None:
        """This node is at another address."""
        contact = replace(self.machine.own.contact, hosts=(address,))
        self.perform_all(self.machine.restate(now, contact=contact))

    def sees(self, expected: Mapping[str, int]) -> bool:
        """Whether its view has exactly these incarnations."""
        members = self.machine.view.members
        if len(members) != len(expected):
            return False
        return all(name in members and members[name].incarnation == number for name, number in expected.items())

    def tell_apart(self, expected: Mapping[str, int]) -> str:
        """How its view differs, for people."""
        members = self.machine.view.members
        missing = [name for name in expected if name not in members]
        extra = [name for name in members if name not in expected]
        other = [name for name in expected if name in members and members[name].incarnation != expected[name]]
        return f"misses {missing[:5]}, has {extra[:5]}, other incarnations of {other[:5]}"

    def _meet_seeds(self) -> None:
        """What introductions do: whoever is at the address says who it is; and again when that one is gone."""
        for address in self._seeds:
            target = self._address_of.get(address)
            if target is None or target is self.host or target.identity in self.machine.view.members:
                continue
            if isinstance(target.process, MembershipProcess):
                self.perform_all(self.machine.meet(self.host.now, target.process.machine.own.contact))
        if self._seeds:
            self.host.after(SEED_INTERVAL_S, self._meet_seeds)

    def _knocked(self, node_id: str, outcome: KnockOutcome) -> None:
        self.perform_all(self.machine.knocked(self.host.now, node_id, outcome))
