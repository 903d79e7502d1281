"""A mesh of membership machines in the simulator, with short names for what the scenarios do to it."""

from __future__ import annotations

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import MembershipTimings
from zmesh.core.membership.messages import MemberEventKind
from zmesh.testing import Conditions, Delay, Host, Rule, World
from zmesh.testing.subjects.membership import FalseDeaths, MembershipProcess

TIMINGS = MembershipTimings(forget_after_s=60.0, redial_interval_s=0.5, redial_interval_max_s=4.0)
DELAY = Delay.uniform(0.001, 0.03)


class Mesh:
    """Nodes by their names; where two have one name, the younger."""

    def __init__(self, seed: int, *, machine: type[Membership] = Membership, loss: float = 0.0) -> None:
        self.world = World(seed, conditions=Conditions(DELAY, loss=loss))
        self.random = self.world.random("scenario")
        self.world.watch(FalseDeaths(self.world, TIMINGS))
        self.hosts: dict[str, Host] = {}
        self._process = type("Process", (MembershipProcess,), {"machine_class": machine})
        self._seeds: dict[str, tuple[str, ...]] = {}

    @property
    def now(self) -> float:
        return self.world.now

    def run_for(self, seconds: float) -> None:
        self.world.run_for(seconds)

    def start(self, name: str, seed: str | None = None, address: str | None = None) -> Host:
        """Start a node, for the first time or again; at an address of its own it is a second one of that name."""
        self._seeds[name] = () if seed is None else (self.hosts[seed].address,)
        if name not in self.hosts or address is not None:
            unique = name if address is None else f"{name} at {address}"
            self.hosts[name] = self.world.add(unique, self._program, identity=name, address=address or f"host-{name}")
        self.hosts[name].start()
        return self.hosts[name]

    def _program(self, host: Host) -> MembershipProcess:
        process: MembershipProcess = self._process(host, TIMINGS, self._seeds[host.identity])
        return process

    def __getitem__(self, name: str) -> MembershipProcess:
        process = self.hosts[name].process
        if not isinstance(process, MembershipProcess):
            raise AssertionError(f"{name} is down")
        return process

    def up(self) -> list[str]:
        return sorted(name for name, host in self.hosts.items() if host.is_up)

    def leave(self, name: str) -> None:
        self.hosts[name].call(self[name].leave)
        self.hosts[name].kill()

    def update(self, name: str) -> None:
        self.hosts[name].call(self[name].update)

    def move(self, name: str, address: str) -> None:
        self.world.network.place(self.hosts[name], address)
        self.hosts[name].call(self[name].update, address)

    def hint(self, observer: str, name: str) -> None:
        """A connection closes, and the observer hears of it."""
        self.hosts[observer].call(self[observer].disconnected, name)

    def cut(self, source: str, target: str) -> None:
        """What one sends to the other is lost."""
        self.world.network.apply(Rule((source,), (target,), cut=True))

    def heal(self) -> None:
        self.world.network.lift_all()

    def kinds(self, observer: str, name: str) -> list[str]:
        """What the observer was told of a node, in order."""
        return [kind.value for kind in self[observer].kinds(name)]

    def last_told(self, observer: str, name: str) -> tuple[float, MemberEventKind]:
        return [(at, event.kind) for at, event in self[observer].events if event.record.node_id == name][-1]

    def disagreements(self) -> list[str]:
        records = {name: self[name].record for name in self.up()}
        expected = {name: (record.incarnation, record.version) for name, record in records.items()}
        views = {name: self[name].view() for name in records}
        return [f"{name} sees {view}, not {expected}" for name, view in views.items() if view != expected]
