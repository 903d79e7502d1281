"""A world for tests of programs: start them on hosts, let things go wrong, wait for what must hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zmesh.testing.checkers import LivenessFailure
from zmesh.testing.conditions import EVERYONE, LAN, Conditions, Rule, between
from zmesh.testing.coroutines import Main, program
from zmesh.testing.faults import Fault, Nemesis, rest_of
from zmesh.testing.host import Host
from zmesh.testing.scenario import Draw, draw_faults
from zmesh.testing.world import World

__all__ = ["Simulation"]

POLL_S = 0.05


class Simulation:
    """One seed's world. Its methods may be called from a director (``direct``, or an async test of the plugin)."""

    def __init__(self, seed: int, conditions: Conditions = LAN) -> None:
        self.seed = seed
        self.world = World(seed, conditions=conditions)
        self.nemesis = Nemesis(self.world)
        self.faults: tuple[Fault, ...] = ()  # that ``chaos`` has drawn

    def start(self, name: str, main: Main | None = None) -> Host:
        """Start a host with a coroutine function; without one, start the host of that name again."""
        if main is not None:
            self.world.add(name, program(main))
        host = self.world.hosts[name]
        host.start()
        return host

    def host(self, name: str) -> Host:
        """To pause, kill, slow down."""
        return self.world.hosts[name]

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    @contextmanager
    def rules(self, *rules: Rule) -> Iterator[None]:
        """Links changed by these, for as long as the block runs."""
        self.world.network.apply(*rules)
        try:
            yield
        finally:
            self.world.network.lift(*rules)

    @contextmanager
    def partition(self, *names: str) -> Iterator[None]:
        """These cut off from all others."""
        with self.rules(*between(names, rest_of(self.world, names))):
            yield

    @contextmanager
    def paused(self, *names: str) -> Iterator[None]:
        """These stopped where they stand."""
        self.pause(*names)
        try:
            yield
        finally:
            self.resume(*names)

    def chaos(self, draws: Sequence[Draw], for_s: float, *, faults_per_minute: float = 30.0) -> tuple[Fault, ...]:
        """Draw faults for the next ``for_s`` seconds, and let them happen. The seed decides which kinds there are."""
        chance = self.world.random("chaos", len(self.faults))
        drawn = draw_faults(draws, list(self.world.hosts), self.world.now, for_s, faults_per_minute, chance)
        self.nemesis.schedule(drawn)
        self.faults += drawn
        return drawn

    def cut(self, *names: str) -> None:
        """Cut these off from all others, until ``heal``."""
        self.world.network.apply(*between(names, rest_of(self.world, names)))

    def lose(self, share: float, *names: str) -> None:
        """Lose a share of the packets that these send, or that anybody sends, until ``heal``."""
        self.world.network.apply(Rule(names or EVERYONE, EVERYONE, loss=share))

    def pause(self, *names: str) -> None:
        """Stop these where they stand, until ``resume`` or ``heal``."""
        for name in names:
            self.host(name).pause()

    def resume(self, *names: str) -> None:
        """Let these go on."""
        for name in names:
            self.host(name).resume()

    def kill(self, *names: str) -> None:
        """End the programs of these, at once; ``restart`` and ``heal`` start them again."""
        for name in names:
            self.host(name).kill()

    def restart(self, *names: str) -> None:
        """Start the programs of these anew, whether they run or not."""
        for name in names:
            self.host(name).kill()
            self.host(name).start()

    def heal(self) -> None:
        """End all that goes wrong; what is down is started again."""
        self.nemesis.heal()

    # -- what must hold ------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], Any], within_s: float, what: str = "the condition") -> float:
        """Wait for a condition; how long it took. Raises ``LivenessFailure`` if it does not hold in time."""
        started = self.world.now
        while not condition():
            if self.world.now - started >= within_s:
                raise LivenessFailure(f"{what} does not hold after {within_s} s", at=self.world.now)
            await asyncio.sleep(POLL_S)
        return self.world.now - started

    def close(self) -> None:
        """The world ends: see ``World.close``."""
        self.world.close()

    def describe(self) -> str:
        """What is worth knowing when a test has failed."""
        lines = [f"seed {self.seed}, {self.world.now:.3f} simulated seconds, trace {self.world.trace.digest()}"]
        lines += [f"  {fault}" for fault in self.faults if fault.at <= self.world.now]
        return "\n".join(lines)
