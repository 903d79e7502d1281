"""What must hold for a broadcast: every record delivered once and in order or counted as lost, and none lost early."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from zmesh.core.broadcast import Deliver, Lost, SubscriberLagging
from zmesh.core.broadcast.publisher import LAG_LIMIT_S
from zmesh.testing.checkers import Checker
from zmesh.testing.faults import Begin, Fault
from zmesh.testing.host import Host
from zmesh.testing.scenario import Draw, Settings, names_of
from zmesh.testing.subjects.broadcast import (
    MAX_SIZE,
    WINDOW_BYTES,
    Heard,
    Position,
    Published,
    PublisherProcess,
    Rejoined,
    Subscribed,
    SubscriberProcess,
)
from zmesh.testing.trial import Subject
from zmesh.testing.world import World

__all__ = ["Accounts", "BroadcastSubject"]

BLOCKED_LIMIT_S = 20.0  # a stopped subscriber is given up after 5 s; other faults may come on top


@dataclass(slots=True)
class Account:
    """What a subscriber was told of, and what the publisher knows of it."""

    next_record: int | None = None  # delivered or lost so far: everything below
    has_lost_its_say: bool = False  # since it last had everything
    since: int = 1  # the record at which its latest subscription began
    starts: dict[int, None] = field(default_factory=dict)  # where the publisher has said that a subscription begins
    has_begun: bool = False  # what it heard has come through one of those: it may count what it misses
    told: int = 1  # the publisher has read of everything below this
    told_at: float = 0.0


class Accounts(Checker):
    """Follows what is published, heard, lost and told."""

    def __init__(self, world: World, publisher: Host) -> None:
        super().__init__(world)
        self.accounts: dict[str, Account] = {}
        self._publisher = publisher
        self._end = 1
        self._times: dict[int, float] = {}  # of each record
        self._room_at = 0.0

    def observed(self, host: Host, observation: Any) -> None:
        """Take the observation into account."""
        if isinstance(observation, Published):
            self._times |= dict.fromkeys(
                range(observation.first, observation.first + observation.count), self.world.now
            )
            self._end = observation.first + observation.count
        elif isinstance(observation, Subscribed):
            account = self.accounts.setdefault(observation.node_id, Account())
            if observation.is_new and observation.position > account.told:
                account.told, account.told_at = observation.position, self.world.now
            account.since = observation.position
            account.starts[observation.position] = None
        elif isinstance(observation, Heard):
            self._heard(host, self.accounts.setdefault(host.name, Account()), observation)
        elif isinstance(observation, Position):
            self._told(self.accounts[observation.node_id], observation.position)
        elif isinstance(observation, SubscriberLagging):
            self._lagging(host, self.accounts[observation.node_id])
        elif isinstance(observation, Rejoined):
            account = self.accounts[observation.node_id]
            account.next_record, account.has_begun = None, False
            account.has_lost_its_say = True  # what is published between is not held for it

    def stepped(self) -> None:
        """The publisher holds no more than its window, and goes on whoever stops."""
        process = self._publisher.process
        if isinstance(process, PublisherProcess):
            self._demand(process.machine.held_bytes <= WINDOW_BYTES + MAX_SIZE, "holds more than its window")
            if process.machine.room_bytes > 0:
                self._room_at = self.world.now
            self._demand(self.world.now - self._room_at < BLOCKED_LIMIT_S, "a stopped subscriber stops the publisher")

    def _heard(self, host: Host, account: Account, heard: Heard) -> None:
        effect = heard.effect
        if isinstance(effect, Deliver):
            first = effect.frame.first
            self._demand(account.next_record in (None, first), "not exactly once and in order", host)
            account.has_begun |= first in account.starts
            account.next_record = first + effect.frame.count
        elif isinstance(effect, Lost):
            self._demand(effect.count > 0 and account.next_record is not None, "nothing is lost", host)
            self._demand(account.has_begun, "counts as lost what it had no claim to", host)
            end = (account.next_record or 0) + effect.count
            # An answer to the subscription before this one may come late: then it begins where that one did.
            self._demand(account.has_lost_its_say or end <= account.since, "lost within the window", host)
            account.next_record = end
        elif account.next_record is None:
            account.next_record = heard.expected or None
        else:
            self._demand(account.next_record == heard.expected, "what is lost is not counted", host)
        account.has_begun |= account.next_record in account.starts

    def _told(self, account: Account, position: int) -> None:
        if position > account.told:
            account.told, account.told_at = position, self.world.now
        account.has_lost_its_say &= position < self._end

    def _lagging(self, host: Host, account: Account) -> None:
        behind_since = max(self._times.get(account.told, 0.0), account.told_at)
        limit = LAG_LIMIT_S / host.clock.rate - 1e-6
        self._demand(self.world.now - behind_since > limit, "had everything and lost its say", host)
        account.has_lost_its_say = True

    def _demand(self, condition: bool, what: str, host: Host | None = None) -> None:
        if not condition:
            self.world.fail(host or self._publisher, what)


def _stop_handlers(world: World, fault: Fault) -> Callable[[], None]:
    process = world.hosts[fault.hosts[0]].process

    def set_stopped(are_stopped: bool) -> None:
        if isinstance(process, SubscriberProcess):
            process.are_handlers_stopped = are_stopped

    set_stopped(True)
    return lambda: set_stopped(False)


def _rejoin(world: World, fault: Fault) -> None:
    name = fault.hosts[0]
    publisher, host = world.hosts["n0"], world.hosts[name]
    process = publisher.process
    if not isinstance(process, PublisherProcess) or not isinstance(host.process, SubscriberProcess):
        return
    if process.channels[name].is_open and publisher.is_open and host.is_open:
        host.observe(Rejoined(name))
        host.call(host.process.rejoin)
        publisher.call(process.rejoin, name)


def _drop(world: World, fault: Fault) -> Callable[[], None]:
    """The publish channels to everybody drop a share of their frames."""
    process = world.hosts["n0"].process

    def set_drop(share: float) -> None:
        if isinstance(process, PublisherProcess):
            for channel in process.channels.values():
                channel.drop = share

    set_drop(fault.amount)
    return lambda: set_drop(0.0)


class BroadcastSubject(Subject):
    """One publisher, n0, and its subscribers."""

    publisher_class: ClassVar[type[PublisherProcess]] = PublisherProcess
    subscriber_class: ClassVar[type[SubscriberProcess]] = SubscriberProcess
    kinds: ClassVar[Mapping[str, Begin]] = {"stop_handlers": _stop_handlers, "rejoin": _rejoin, "drop": _drop}
    settings: ClassVar[Settings] = Settings(
        "broadcast",
        nodes=4,
        fault_s=60.0,
        settle_s=20.0,
        faults_per_minute=60.0,
        draws=(
            Draw("disconnect", 2),
            Draw("drop", -1, (0.1, 5.0), (0.05, 1.0)),
            Draw("rejoin", 1),
            Draw("stop_handlers", 1, (0.5, 40.0)),
            Draw("cut_out", 0, (0.1, 4.0)),
            Draw("partition", 0, (0.1, 4.0)),
            Draw("pause", 1, (0.05, 3.0)),
            Draw("delay", -1, (1.0, 10.0), (0.01, 0.2)),
        ),
    )

    def build(self) -> None:
        """Start everybody."""
        first, *others = names_of(self.scenario.nodes)
        publisher = self.world.add(first, lambda host: self.publisher_class(host, others))
        for name in others:
            self.world.add(name, lambda host: self.subscriber_class(host, first))
        self.world.watch(Accounts(self.world, publisher))
        for host in self.world.hosts.values():
            host.start()

    def complaints(self) -> list[str]:
        """Who has not accounted for every record, and what is still held; nothing new is published from now on."""
        publisher, *others = [host.process for host in self.world.hosts.values()]
        if not isinstance(publisher, PublisherProcess):
            return ["there is no publisher"]
        publisher.is_user_active = False
        end = publisher.machine.next_record
        behind = [p for p in others if isinstance(p, SubscriberProcess) and p.machine.expected != end]
        found = [f"{p.host.name} is at {p.machine.expected} of {end}: neither delivered nor counted" for p in behind]
        if publisher.machine.held_bytes:
            found.append(f"{publisher.machine.held_bytes} bytes are held that everybody has")
        return found
