"""The simulation: one queue of events, one true time, one seed.

The queue is a heap of plain tuples ``(at, order, action, first, second, third)``. ``order`` counts what is scheduled,
so that events of one instant happen in the order in which they were scheduled, and no tuple is compared further.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Final

from zmesh.errors import check
from zmesh.testing.checkers import Checker, LivenessFailure, SafetyViolation
from zmesh.testing.conditions import LAN, Conditions
from zmesh.testing.host import Host
from zmesh.testing.inputs import deliver
from zmesh.testing.network import Network
from zmesh.testing.process import Process
from zmesh.testing.randomness import stream
from zmesh.testing.streams import arrive
from zmesh.testing.trace import Trace

__all__ = ["World", "WorldStatistics"]

BATCH: Final = 4096  # events between two foldings of the trace

Event = tuple[float, int, Callable[[Any, Any, Any], None], Any, Any, Any]


@dataclass(frozen=True, slots=True)
class WorldStatistics:
    """Counters of a simulation."""

    events: int
    sent: int
    sent_bytes: int
    received: int
    lost: int
    duplicated: int
    unreachable: int


class World:
    """Hosts on a network, under a virtual clock."""

    def __init__(self, seed: int, *, conditions: Conditions = LAN, full_trace: bool = False) -> None:
        self.seed = seed
        self.now = 0.0  # true time, in seconds
        self.queue: list[Event] = []
        self.next_order = itertools.count().__next__
        self.hosts: dict[str, Host] = {}  # by name, in the order in which they were added
        self.network = Network(self, conditions)
        self.trace = Trace()
        self.events = 0
        self.graveyard: list[Process] = []  # the dead, of which something is left that must not run on
        self._failure: SafetyViolation | None = None
        self._full_trace = full_trace
        self._observers: list[Checker] = []
        self._steppers: list[Checker] = []

    # -- building ------------------------------------------------------------------------------------------------------

    def random(self, *purpose: str | int) -> random.Random:
        """The random stream for a purpose, by name."""
        return stream(self.seed, "world", *purpose)

    def add(
        self,
        name: str,
        program: Callable[[Host], Process],
        *,
        newer: Callable[[Host], Process] | None = None,
        identity: str | None = None,
        address: str | None = None,
    ) -> Host:
        """A host, not started yet. ``program`` makes a process for each start, ``newer`` those after an upgrade.

        ``identity`` is what receivers are told of the sender, ``address`` where it is found; both are its name if not
        given.
        """
        check(name not in self.hosts, f"there is a host {name} already")
        host = self.hosts[name] = Host(self, len(self.hosts), name, program)
        host.newer = newer
        host.identity = identity if identity is not None else name
        self.network.place(host, address if address is not None else name)
        return host

    def watch(self, checker: Checker) -> None:
        """Let a checker see what happens from now on."""
        if type(checker).observed is not Checker.observed:
            self._observers.append(checker)
        if type(checker).stepped is not Checker.stepped:
            self._steppers.append(checker)

    # -- scheduling ----------------------------------------------------------------------------------------------------

    def push(self, at: float, action: Callable[[Any, Any, Any], None], first: Any, second: Any, third: Any) -> None:
        """Schedule an event; the hot path does this itself."""
        heappush(self.queue, (at, self.next_order(), action, first, second, third))

    def push_after(
        self, seconds: float, action: Callable[[Any, Any, Any], None], first: Any, second: Any, third: Any
    ) -> None:
        """Schedule an event ``seconds`` from now."""
        heappush(self.queue, (self.now + seconds, self.next_order(), action, first, second, third))

    def at(self, when: float, function: Callable[..., Any], *args: Any) -> None:
        """Do something in the scenario at a true time."""
        check(when >= self.now, f"{when} is over: it is {self.now}")
        self.push(when, _do, function, args, None)

    def after(self, seconds: float, function: Callable[..., Any], *args: Any) -> None:
        """Do something in the scenario ``seconds`` from now."""
        self.push(self.now + seconds, _do, function, args, None)

    # -- running -------------------------------------------------------------------------------------------------------

    def run_until(self, when: float) -> None:
        """Let everything happen that happens up to a true time."""
        while self._run_batch(when):
            self.trace.flush()
        self.now = max(self.now, when)
        if self._failure is not None:
            raise self._failure  # once more: a program may have caught it

    def run_for(self, seconds: float) -> None:
        """Let ``seconds`` of true time pass."""
        self.run_until(self.now + seconds)

    def step(self, until: float = float("inf")) -> bool:
        """Let the next event happen, if it comes no later than ``until``; whether there was one."""
        return self._run_carefully(until)

    def converge(self, complaints: Callable[[], list[str]], within_s: float, *, every_s: float = 0.25) -> float:
        """Run until there are no complaints; how long it took. Raises ``LivenessFailure`` after ``within_s``."""
        started, end = self.now, self.now + within_s
        while remaining := complaints():
            if self.now >= end:
                shown = "; ".join(remaining[:3])
                raise LivenessFailure(f"after {within_s} s without faults: {shown}", at=self.now)
            self.run_until(min(self.now + every_s, end))
        return self.now - started

    def _run_batch(self, when: float) -> bool:
        """Up to ``BATCH`` events; whether any may be left."""
        if self._full_trace or self._steppers:
            return all(self._run_carefully(when) for _ in range(BATCH))
        queue, pop, record = self.queue, heappop, self.trace.numbers.append
        done = 0
        try:
            for done in range(1, BATCH + 1):
                if not queue or queue[0][0] > when:
                    done -= 1
                    return False
                at, order, action, first, second, third = pop(queue)
                self.now = at
                record(at)
                record(order)
                action(first, second, third)
        finally:
            self.events += done
        return True

    def _run_carefully(self, when: float) -> bool:
        """One event, as the checkers of steps or a full trace want it."""
        if not self.queue or self.queue[0][0] > when:
            return False
        at, order, action, first, second, third = heappop(self.queue)
        self.now = at
        self.events += 1
        self.trace.numbers.append(at)
        self.trace.numbers.append(order)
        if self._full_trace and action in (deliver, arrive):
            self.trace.add_text(f"{first.name} {second}: {third!r}")
        action(first, second, third)
        for checker in self._steppers:
            checker.stepped()
        return True

    def close(self) -> None:
        """The end: every process is ended, and what is left of it goes where nothing can run any more."""
        for host in self.hosts.values():
            host.power_off()
        dead, self.graveyard = self.graveyard, []
        for process in dead:
            process.bury()

    # -- what becomes known --------------------------------------------------------------------------------------------

    def observe(self, host: Host, observation: Any) -> None:
        """A process reports something: it goes into the trace, and to the checkers."""
        self.trace.add_text(f"{host.name}: {observation!r}")
        for checker in self._observers:
            checker.observed(host, observation)

    def fail(self, host: Host | None, what: str) -> None:
        """Something happened that must never happen."""
        if self._failure is None:
            self._failure = SafetyViolation(what, at=self.now, host=host.name if host is not None else "")
        raise self._failure

    def statistics(self) -> WorldStatistics:
        """What has happened so far, in numbers."""
        hosts, network = self.hosts.values(), self.network
        return WorldStatistics(
            events=self.events,
            sent=sum(host.sent for host in hosts),
            sent_bytes=sum(host.sent_bytes for host in hosts),
            received=sum(host.received for host in hosts),
            lost=network.lost,
            duplicated=network.duplicated,
            unreachable=network.unreachable,
        )


def _do(function: Callable[..., Any], args: tuple[Any, ...], _: None) -> None:
    function(*args)
