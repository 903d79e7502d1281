"""The simulated network: a link in each direction between any two hosts that talk.

A message on a plain link costs one random number, which says whether it is lost and, if not, how long it takes, one
look-up and one entry in the world's queue. What is under way when a link is cut still arrives; what is sent while it
is cut does not. Messages carry no copies: whatever is sent must not be changed afterwards, and frozen ones are not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappush
from typing import TYPE_CHECKING, Any, Final

from zmesh.errors import check
from zmesh.testing.conditions import Conditions, Rule
from zmesh.testing.delays import QUANTILES
from zmesh.testing.host import Host
from zmesh.testing.inputs import NEVER, deliver, disconnect

if TYPE_CHECKING:
    from zmesh.testing.world import World

__all__ = ["Link", "Network"]

BELOW_QUANTILES: Final = QUANTILES - 2.0**-30  # a chance of nearly 1 must not be rounded up to beyond the table
REMEMBERED: Final = 1024  # rules that are over: a checker asks about the last seconds


class Link:
    """From one host to another, in one direction."""

    __slots__ = (
        "arrives_at",
        "base",
        "clogged",
        "conditions",
        "free_at",
        "is_plain",
        "loss",
        "scale",
        "table",
        "target",
    )

    def __init__(self, target: Host, base: Conditions) -> None:
        self.target = target
        self.base = base
        self.arrives_at = 0.0  # the last message that keeps its order
        self.free_at = 0.0  # the line has sent all it was given: for throttled links
        self.clogged: list[tuple[Any, int]] = []
        self.become(base)

    def become(self, conditions: Conditions) -> None:
        """Treat messages like this from now on."""
        self.conditions = conditions
        self.is_plain = conditions.is_plain
        self.table = conditions.delay.table
        self.loss = conditions.loss
        self.scale = BELOW_QUANTILES / (1.0 - self.loss) if self.loss < 1.0 else 0.0


class Network:
    """All links, the rules in force, and who is at which address."""

    def __init__(self, world: World, conditions: Conditions) -> None:
        self.conditions = conditions  # of links that nobody has described
        self.at_address: dict[str, Host] = {}
        self.moves = 0  # how often a host was put somewhere
        self.lost = 0
        self.duplicated = 0
        self.unreachable = 0
        self._world = world
        self._base: dict[tuple[str, str], Conditions] = {}  # by names of hosts
        self._rules: list[Rule] = []
        self._ended: deque[tuple[float, Rule]] = deque(
            maxlen=REMEMBERED
        )  # rules that were trouble, and when they ended

    # -- what a scenario does ------------------------------------------------------------------------------------------

    def describe(self, source: str, target: str, conditions: Conditions) -> None:
        """Say what the link between two hosts is like, where it is not like the rest."""
        self._base[(source, target)] = conditions
        self._refresh(Rule((source,), (target,)))

    def apply(self, *rules: Rule) -> None:
        """Put rules in force."""
        for rule in rules:
            self._rules.append(rule)
            self._refresh(rule)

    def lift(self, *rules: Rule) -> None:
        """Take rules back, those that were applied and not equal ones."""
        for rule in rules:
            found = [i for i, in_force in enumerate(self._rules) if in_force is rule]
            check(found, "a rule that is not in force cannot be lifted")
            self._forget(self._rules.pop(found[0]))
            self._refresh(rule)

    def lift_all(self) -> None:
        """Heal every link."""
        for rule in self._rules:
            self._forget(rule)
        self._rules.clear()
        self._refresh(Rule())

    def close(self, one: Host, other: Host) -> None:
        """The connections between two hosts close, and both learn of it."""
        self._close(one, other)
        self._close(other, one)
        for stream in (*one.streams, *other.streams):
            if stream.address in (one.address, other.address):
                stream.break_()

    def close_all(self, host: Host) -> None:
        """All connections of a host close, and its peers learn of it unless they are cut off."""
        for other in self._world.hosts.values():
            if other is not host and (other.address in host.links or host.address in other.links):
                self._close(host, other)
            for stream in other.streams:
                if stream.address == host.address:
                    stream.break_(keep=0.0)

    def is_cut(self, source: str, target: str) -> bool:
        """Whether what one host sends to another now is lost for certain."""
        return any(rule.cut and rule.covers(source, target) for rule in self._rules)

    def troubled_at(self, name: str) -> float:
        """When a rule that is trouble last named this host; infinity if one does now."""
        return self._troubled_at(lambda rule: name in rule.names)

    def pair_troubled_at(self, one: str, other: str) -> float:
        """When a rule that is trouble last covered a link between these two; infinity if one does now."""
        return self._troubled_at(lambda rule: rule.covers(one, other) or rule.covers(other, one))

    def place(self, host: Host, address: str) -> None:
        """Put a host at an address; from where it was it is gone. What is under way to it still arrives."""
        check(address not in self.at_address, f"{address} is taken")
        if self.at_address.get(host.address) is host:
            del self.at_address[host.address]
            for other in self._world.hosts.values():
                other.links.pop(host.address, None)
        host.address = address
        self.moves += 1
        self.at_address[address] = host

    # -- the hot path --------------------------------------------------------------------------------------------------

    def send(self, source: Host, addresses: Sequence[str], message: Any, size: int) -> None:
        """Carry a message to whoever is at each of the addresses."""
        world, links, chance, identity = self._world, source.links, source.chance, source.identity
        now, queue, next_order = world.now, world.queue, world.next_order
        source.sent += len(addresses)
        source.sent_bytes += len(addresses) * size
        for address in addresses:
            link = links.get(address) or self._new_link(source, address)
            if link is None:
                self.unreachable += 1
                continue
            if not link.is_plain:
                self._send_badly(source, link, message, size)
                continue
            luck = chance()
            if luck < link.loss:
                self.lost += 1
                continue
            at = now + link.table[int((luck - link.loss) * link.scale)]
            if at <= link.arrives_at:
                at = link.arrives_at
            else:
                link.arrives_at = at
            heappush(queue, (at, next_order(), deliver, link.target, identity, message))

    def link(self, source: Host, address: str) -> Link | None:
        """The link to an address; None where nobody is."""
        return source.links.get(address) or self._new_link(source, address)

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _send_badly(self, source: Host, link: Link, message: Any, size: int) -> None:
        conditions, chance = link.conditions, source.chance
        if conditions.is_cut or (conditions.loss and chance() < conditions.loss):
            self.lost += 1
            return
        if conditions.is_clogged:
            link.clogged.append((message, size))
            return
        self._schedule(source, link, message, size)
        if conditions.duplicate and chance() < conditions.duplicate:
            self.duplicated += 1
            self._schedule(source, link, message, size)

    def _schedule(self, source: Host, link: Link, message: Any, size: int) -> None:
        conditions, chance, world = link.conditions, source.chance, self._world
        leaves_at = world.now
        if conditions.bytes_per_s:
            link.free_at = leaves_at = max(leaves_at, link.free_at) + size / conditions.bytes_per_s
        at = leaves_at + link.table[int(chance() * QUANTILES)]
        if conditions.reorder and chance() < conditions.reorder:
            at += chance() * conditions.reorder_s
        else:
            at = link.arrives_at = max(at, link.arrives_at)
        world.push(at, deliver, link.target, source.identity, message)

    def _close(self, source: Host, target: Host) -> None:
        """Tell the target, after all that is under way to it."""
        link = self.link(source, target.address)
        if link is not None and not link.conditions.is_cut and not link.conditions.is_clogged:
            at = self._world.now + link.table[int(source.chance() * QUANTILES)]
            link.arrives_at = at = max(at, link.arrives_at)
            self._world.push(at, disconnect, target, source.identity, None)

    def _forget(self, rule: Rule) -> None:
        if rule.is_trouble:
            self._ended.append((self._world.now, rule))

    def _troubled_at(self, concerns: Callable[[Rule], bool]) -> float:
        if any(rule.is_trouble and concerns(rule) for rule in self._rules):
            return NEVER
        return max((ended_at for ended_at, rule in self._ended if concerns(rule)), default=-NEVER)

    def _new_link(self, source: Host, address: str) -> Link | None:
        target = self.at_address.get(address)
        if target is None:
            return None
        link = source.links[address] = Link(target, self._base.get((source.name, target.name), self.conditions))
        self._judge(source, link)
        return link

    def _judge(self, source: Host, link: Link) -> None:
        conditions = self._base.get((source.name, link.target.name), self.conditions)
        for rule in self._rules:
            if rule.covers(source.name, link.target.name):
                conditions = rule.changed(conditions)
        link.become(conditions)
        if link.clogged and not conditions.is_clogged:
            waiting, link.clogged = link.clogged, []
            for message, size in waiting:
                self._schedule(source, link, message, size)

    def _refresh(self, rule: Rule) -> None:
        hosts = self._world.hosts
        sources: Iterable[Host] = hosts.values()
        if rule.sources is not None:
            sources = [hosts[name] for name in rule.sources if name in hosts]
        for source in sources:
            for link in source.links.values() if rule.targets is None else self._links_to(source, rule.targets):
                self._judge(source, link)

    def _links_to(self, source: Host, targets: tuple[str, ...]) -> list[Link]:
        hosts = self._world.hosts
        addresses = [hosts[name].address for name in targets if name in hosts]
        return [source.links[address] for address in addresses if address in source.links]
