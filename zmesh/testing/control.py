"""The control plane of a simulated node: the membership machine on the node's own loop, and introductions.

Messages travel as bytes, over streams; the parts of introductions as they are. As under CURVE, a message for one node
is not read by another that happens to be at its address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import AgentRecord, Contact, NodeRecord, contact_of
from zmesh.core.membership.messages import (
    Knock,
    KnockOutcome,
    MembershipEffect,
    MembershipMessage,
    NotifyMember,
    NotifyRecord,
    ReportIncident,
    Send,
    SendAll,
)
from zmesh.core.membership.settings import MembershipSettings
from zmesh.core.membership.statements import Alive
from zmesh.runtime.admission import Admitted
from zmesh.runtime.control_notices import ControlNotice, ControlStatistics, IncidentLog
from zmesh.runtime.control_telling import Telling
from zmesh.runtime.peer import Route
from zmesh.security import fingerprint_of
from zmesh.security.keys import z85_encode
from zmesh.testing.host import Host
from zmesh.testing.process import MachineProcess
from zmesh.testing.streams import Stream
from zmesh.testing.subjects.membership_mesh import Seals, SimulatedNotary
from zmesh.wire.membership import decode_membership, encode_membership
from zmesh.wire.record import encode_record

__all__ = ["ControlProcess", "SimulatedControl", "is_control", "key_of", "make_record"]

PORTS: Final = (7650, 7651, 7652, 7653)
ROUND_TRIP_S: Final = 0.003
MAX_WAITING: Final = 64
FOREVER_MS: Final = (1 << 63) - 1


def key_of(name: str) -> bytes:
    """The key of a simulated node, which opens nothing."""
    return z85_encode(hashlib.blake2b(name.encode(), digest_size=32).digest())


def make_record(node_id: str, incarnation: int, address: str, version: int = 1) -> NodeRecord:
    """The record of a node at an address of the simulated network."""
    return NodeRecord(node_id, incarnation, version, b"", "machine", (address,), *PORTS)


@dataclass(frozen=True, slots=True)
class Frame:
    """A control message for the node of that name, which may have moved."""

    node_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Introduction:
    """Somebody says who it is; ``wants_answer``: it dialled."""

    contact: Contact
    wants_answer: bool


def is_control(message: Any) -> bool:
    """Whether a message is for the control plane of a node, and not for its program."""
    return isinstance(message, Frame | Introduction)


class Ways:
    """Where each node says that it is; every key is as good as proved."""

    def __init__(self) -> None:
        self.address_of: dict[str, str] = {}

    def route_of(self, node_id: str) -> Route | None:
        """See ``Routes``."""
        address = self.address_of.get(node_id)
        return Route(address, PORTS[1], key_of(node_id)) if address is not None else None

    def by_name(self, node_id: str) -> Admitted:
        """See ``Admissions``."""
        key = key_of(node_id)
        return Admitted(node_id, key, fingerprint_of(key), b"", FOREVER_MS)


class ControlProcess(MachineProcess):
    """The membership machine of one node, and what is said to and by it."""

    machine: Membership

    def __init__(
        self,
        host: Host,
        settings: MembershipSettings,
        incarnation: int,
        client: bool,
        notify: Callable[[ControlNotice], None],
    ) -> None:
        self.node_id = host.identity
        self.record = replace(make_record(self.node_id, incarnation, host.address), client=client)
        own = Alive(contact_of(self.record), 0, self.record.version, b"", b"")
        notary, chance = SimulatedNotary(Seals(), self.node_id), host.random("membership")
        super().__init__(host, Membership(own, settings, notary, chance, record=encode_record(self.record)))
        self.incidents = IncidentLog(notify)
        self.heard_ms: dict[str, int] = {}  # by node
        self.sent = self.received = 0
        self.ways = Ways()
        self._knock_wait_s = settings.knock_wait_s
        self._telling = Telling(self.ways, self.ways, notify, lambda: not self.machine.view.is_near)
        self._streams: dict[str, Stream] = {}  # by address
        self._waiting: dict[str, dict[str, Frame]] = {}  # the newest of each kind, until the stream is open

    def view(self) -> Iterable[str]:
        """The names of the members."""
        return self.machine.view.members

    # -- inputs --------------------------------------------------------------------------------------------------------

    def receive(self, now: float, sender: str, message: Any) -> None:
        """A control message, or a part of an introduction."""
        if isinstance(message, Introduction):
            self._meet(now, message)
        elif message.node_id == self.node_id:
            self.received += 1
            self.heard_ms[sender] = self.host.wall_ms
            super().receive(now, sender, decode_membership(message.data))

    def disconnected(self, now: float, peer: str) -> None:
        """A connection closed."""
        self.perform_all(self.machine.disconnected(now, peer))

    def dial(self, addresses: Iterable[str]) -> None:
        """Introduce this node to whoever is there."""
        for address in addresses:
            self.host.send(address, Introduction(self.machine.own.contact, wants_answer=True))

    def find(self, node_id: str) -> None:
        """The way to that member is wanted."""
        member = self.machine.view.members.get(node_id)
        if member is not None:
            self.ways.address_of[node_id] = member.contact.hosts[0]
            self._telling.settle(node_id)

    def update_record(self, record: NodeRecord) -> None:
        """Something new to say of itself."""
        self.record = record
        now, contact = self.host.now, contact_of(record)
        self.perform_all(self.machine.restate(now, contact=contact, record=encode_record(record)))

    def leave(self, now: float) -> None:
        """Say goodbye."""
        self.perform_all(self.machine.leave(now))

    def close(self) -> None:
        """After ``leave``: what is under way arrives."""
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()

    def _meet(self, now: float, introduction: Introduction) -> None:
        contact = introduction.contact
        refusal = self.machine.refuses(contact)
        if refusal not in ("", "self"):
            self.incidents.report(refusal, contact.node_id, f"a second node that calls itself {contact.node_id}")
        if refusal:
            return
        if introduction.wants_answer:
            self.host.send(contact.hosts[0], Introduction(self.machine.own.contact, wants_answer=False))
        self.perform_all(self.machine.meet(now, contact))

    # -- effects -------------------------------------------------------------------------------------------------------

    def perform(self, effect: MembershipEffect) -> None:
        """Send bytes, and tell of events."""
        match effect:
            case Send(to, message):
                self._send(to, message)
            case SendAll(contacts, message):
                for each in contacts:
                    self._send(each, message)
            case Knock(to):
                self._knock(to)
            case NotifyMember(kind, alive, reason):
                if self.machine.view.is_near or alive.node_id in self.ways.address_of:
                    self.ways.address_of[alive.node_id] = alive.contact.hosts[0]
                self._telling.member(kind, alive, reason)
            case NotifyRecord(alive, record):
                self._telling.record(alive, record)
            case ReportIncident(kind_of_incident, source, reason):
                self.incidents.report(kind_of_incident, source, reason)

    def _send(self, to: Contact, message: MembershipMessage) -> None:
        """Over a connection, as for real; what comes before it stands waits."""
        address, frame = to.hosts[0], Frame(to.node_id, encode_membership(message))
        stream = self._streams.get(address)
        if stream is None:
            stream = self._streams[address] = Stream(self.host, address, lambda now: self._opened(address))
        if stream.send(frame):
            self.sent += 1
            return
        waiting = self._waiting.setdefault(address, {})
        if type(message).__name__ in waiting or len(waiting) < MAX_WAITING:
            waiting[type(message).__name__] = frame

    def _opened(self, address: str) -> None:
        for frame in self._waiting.pop(address, {}).values():
            self.sent += self._streams[address].send(frame)

    def _knock(self, to: Contact) -> None:
        network, address = self.host.world.network, to.hosts[0]
        target = network.at_address.get(address)
        name = self.host.name
        is_cut = target is None or network.is_cut(name, target.name) or network.is_cut(target.name, name)
        if is_cut or target is None or not target.has_power:
            self.host.after(self._knock_wait_s, self._knocked, to.node_id, KnockOutcome.SILENT)
        else:
            outcome = KnockOutcome.OPEN if target.is_up else KnockOutcome.REFUSED
            self.host.after(ROUND_TRIP_S, self._knocked, to.node_id, outcome)

    def _knocked(self, node_id: str, outcome: KnockOutcome) -> None:
        self.perform_all(self.machine.knocked(self.host.now, node_id, outcome))


class SimulatedControl:
    """See ``Control``."""

    def __init__(self, process: ControlProcess) -> None:
        self._process = process

    def update_record(
        self,
        *,
        agents: tuple[AgentRecord, ...] | None = None,
        hosts: tuple[str, ...] | None = None,
        certificate: bytes | None = None,
        maintenance: bool | None = None,
        publishes: bool | None = None,
    ) -> None:
        """Change what this node says of itself, and tell the mesh."""
        given = {
            "agents": agents,
            "hosts": hosts,
            "certificate": certificate,
            "maintenance": maintenance,
            "publishes": publishes,
        }
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        record = self._process.record
        self._process.update_record(replace(record, version=record.version + 1, **changes))

    def dial(self, addresses: Sequence[tuple[str, int]], persistent: bool) -> None:
        """Meet whoever is there; the search sees to it that it is asked again."""
        self._process.dial(address for address, _ in addresses)

    def find(self, node_id: str) -> None:
        """Something is to be sent to that member: in a wide mesh its address is told of now."""
        self._process.find(node_id)

    def disconnected(self, node_id: str) -> None:
        """A data connection with that node broke."""
        self._process.disconnected(self._process.host.now, node_id)

    def last_heard_ms(self, node_id: str) -> int | None:
        """When the node was last heard of."""
        return self._process.heard_ms.get(node_id)

    def statistics(self) -> ControlStatistics:
        """What is counted here."""
        process = self._process
        met, view = len(process.ways.address_of), process.machine.view
        seen = len(view), view.digest
        return ControlStatistics(process.sent, process.received, 0, 0, 0, 0, met, 0, process.incidents.counts(), *seen)
