"""What goes wrong in a scenario: faults as plain data, and how each kind begins and ends.

A fault says all about itself (what, when, how long, whom, how much), so that a scenario can be printed, edited, and
shrunk by leaving faults out. ``Begin`` functions start a fault and return what ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmesh.testing.conditions import EVERYONE, Rule, between
from zmesh.testing.delays import Delay

if TYPE_CHECKING:
    from zmesh.testing.host import Host
    from zmesh.testing.world import World

__all__ = ["KINDS", "Begin", "Fault", "Nemesis", "rest_of"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. ``for_s`` is 0 for what is done at once; what ``amount`` means depends on the kind."""

    kind: str
    at: float
    for_s: float
    hosts: tuple[str, ...]
    amount: float = 0.0


End = Callable[[], None]
Begin = Callable[["World", Fault], End | None]


class Nemesis:
    """Lets faults happen at their times, and ends them all when it is told to."""

    def __init__(self, world: World, kinds: Mapping[str, Begin] | None = None) -> None:
        self._world = world
        self._kinds = {**KINDS, **(kinds or {})}
        self._open: dict[int, End] = {}
        self._count = 0
        self._healings = 0

    def schedule(self, faults: tuple[Fault, ...]) -> None:
        """Have these happen, unless everything is healed before."""
        for fault in faults:
            self._world.at(fault.at, self._begin, fault, self._healings)

    def heal(self) -> None:
        """End every fault now, in the order in which they began; start what is down, resume what is paused."""
        self._healings += 1
        for number in list(self._open):
            self._end(number)
        self._world.network.lift_all()
        for host in self._world.hosts.values():
            host.resume()
            host.start_again()

    def _begin(self, fault: Fault, healings: int) -> None:
        if healings != self._healings:
            return
        end = self._kinds[fault.kind](self._world, fault)
        if end is not None:
            self._count += 1
            self._open[self._count] = end
            self._world.after(fault.for_s, self._end, self._count)

    def _end(self, number: int) -> None:
        end = self._open.pop(number, None)
        if end is not None:
            end()


def rest_of(world: World, some: tuple[str, ...]) -> tuple[str, ...]:
    """All the other hosts."""
    return tuple(name for name in world.hosts if name not in some)


# -- of hosts ----------------------------------------------------------------------------------------------------------


def _kill(world: World, fault: Fault) -> End:
    host = world.hosts[fault.hosts[0]]
    host.kill()
    return host.start_again


def _power_off(world: World, fault: Fault) -> End:
    host = world.hosts[fault.hosts[0]]
    host.power_off()
    return host.start_again


def _upgrade(world: World, fault: Fault) -> End:
    """One after the other is ended, and ``amount`` seconds later started with the newer version of its program.

    When the fault is over, those that it has not come to keep the old one.
    """
    waiting = list(fault.hosts or world.hosts)

    def upgrade_next() -> None:
        if waiting:
            host = world.hosts[waiting.pop(0)]
            host.upgrade()
            world.after(fault.amount, go_on, host)

    def go_on(host: Host) -> None:
        host.start_again()
        upgrade_next()

    upgrade_next()
    return waiting.clear


def _pause(world: World, fault: Fault) -> End:
    host = world.hosts[fault.hosts[0]]
    host.pause()
    return host.resume


def _slow(world: World, fault: Fault) -> End:
    host = world.hosts[fault.hosts[0]]
    host.slow_down(fault.amount)
    return lambda: host.slow_down(0.0)


def _drift(world: World, fault: Fault) -> End:
    host = world.hosts[fault.hosts[0]]
    host.drift(fault.amount)
    return lambda: host.drift(1.0)


def _step_wall(world: World, fault: Fault) -> None:
    world.hosts[fault.hosts[0]].clock.step_wall(fault.amount)


# -- of disks ----------------------------------------------------------------------------------------------------------


def _disk_full(world: World, fault: Fault) -> End:
    """Only ``amount`` bytes are left."""
    disk = world.hosts[fault.hosts[0]].disk
    disk.conditions.capacity_bytes = disk.used_bytes + int(fault.amount)
    return lambda: setattr(disk.conditions, "capacity_bytes", None)


def _disk_errors(world: World, fault: Fault) -> End:
    """A share of the reads, writes and syncs fail."""
    conditions = world.hosts[fault.hosts[0]].disk.conditions

    def set_errors(share: float) -> None:
        conditions.read_error = conditions.write_error = conditions.sync_error = share

    set_errors(fault.amount)
    return lambda: set_errors(0.0)


def _slow_disk(world: World, fault: Fault) -> End:
    """A sync takes ``amount`` seconds."""
    conditions = world.hosts[fault.hosts[0]].disk.conditions
    before, conditions.sync_s = conditions.sync_s, fault.amount
    return lambda: setattr(conditions, "sync_s", before)


def _flip_bit(world: World, fault: Fault) -> None:
    world.hosts[fault.hosts[0]].disk.flip_bit()


# -- of the network ----------------------------------------------------------------------------------------------------


def _in_force(world: World, *rules: Rule) -> End:
    world.network.apply(*rules)
    return lambda: world.network.lift(*rules)


def _cut_out(world: World, fault: Fault) -> End:
    return _in_force(world, *between(fault.hosts, rest_of(world, fault.hosts), both_ways=False))


def _cut_in(world: World, fault: Fault) -> End:
    return _in_force(world, *between(rest_of(world, fault.hosts), fault.hosts, both_ways=False))


def _partition(world: World, fault: Fault) -> End:
    return _in_force(world, *between(fault.hosts, rest_of(world, fault.hosts)))


def _bridge(world: World, fault: Fault) -> End:
    """The first host sees everybody; the others named do not see those not named."""
    half = fault.hosts[1:]
    return _in_force(world, *between(half, rest_of(world, fault.hosts)))


def _flap(world: World, fault: Fault) -> End:
    """Cut off and connected in turn, each for ``amount`` seconds."""
    rules = between(fault.hosts, rest_of(world, fault.hosts))
    state = {"is_over": False, "is_cut": False}

    def turn() -> None:
        if not state["is_over"]:
            toggle()
            world.after(fault.amount, turn)

    def toggle() -> None:
        change = world.network.lift if state["is_cut"] else world.network.apply
        change(*rules)
        state["is_cut"] = not state["is_cut"]

    def end() -> None:
        state["is_over"] = True
        if state["is_cut"]:
            toggle()

    turn()
    return end


def _clog(world: World, fault: Fault) -> End:
    return _in_force(world, Rule(fault.hosts, EVERYONE, clog=True))


def _loss(world: World, fault: Fault) -> End:
    return _in_force(world, Rule(fault.hosts or EVERYONE, EVERYONE, loss=fault.amount))


def _duplicate(world: World, fault: Fault) -> End:
    return _in_force(world, Rule(fault.hosts or EVERYONE, EVERYONE, duplicate=fault.amount))


def _reorder(world: World, fault: Fault) -> End:
    """A third of the messages may be late by ``amount`` seconds."""
    return _in_force(world, Rule(fault.hosts or EVERYONE, EVERYONE, reorder=1 / 3, reorder_s=fault.amount))


def _throttle(world: World, fault: Fault) -> End:
    return _in_force(world, Rule(fault.hosts or EVERYONE, EVERYONE, bytes_per_s=fault.amount))


def _delay(world: World, fault: Fault) -> End:
    return _in_force(world, Rule(fault.hosts or EVERYONE, EVERYONE, delay=Delay.exponential(0.0, fault.amount)))


def _disconnect(world: World, fault: Fault) -> None:
    one, other = (world.hosts[name] for name in fault.hosts)
    world.network.close(one, other)


KINDS: Mapping[str, Begin] = {
    "kill": _kill,
    "power_off": _power_off,
    "upgrade": _upgrade,
    "pause": _pause,
    "slow": _slow,
    "drift": _drift,
    "step_wall": _step_wall,
    "disk_full": _disk_full,
    "disk_errors": _disk_errors,
    "slow_disk": _slow_disk,
    "flip_bit": _flip_bit,
    "cut_out": _cut_out,
    "cut_in": _cut_in,
    "partition": _partition,
    "bridge": _bridge,
    "flap": _flap,
    "clog": _clog,
    "loss": _loss,
    "duplicate": _duplicate,
    "reorder": _reorder,
    "throttle": _throttle,
    "delay": _delay,
    "disconnect": _disconnect,
}
