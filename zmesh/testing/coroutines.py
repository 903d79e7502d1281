"""Programs written with asyncio, in the simulation: on hosts, and as the director of a scenario.

Each run of a program has a loop of its own, on the clock of its host: it is paused, slowed and killed like any other
process. A killed program runs no further, not even its ``finally`` blocks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from zmesh.config import NetworkConfig
from zmesh.model import message_sources
from zmesh.network import AgentNetwork
from zmesh.testing.burial import bury
from zmesh.testing.checkers import SafetyViolation, SimulationFailure
from zmesh.testing.host import Host
from zmesh.testing.loop import VirtualLoop
from zmesh.testing.planes import SimulatedPlanes
from zmesh.testing.process import Process
from zmesh.testing.world import World

__all__ = ["CoroutineProcess", "Main", "Place", "direct", "program"]

T = TypeVar("T")
Main = Callable[["Place"], Coroutine[Any, Any, None]]


class Place:
    """Where a coroutine runs: what it has of its host. Iterate over it for ``(sender, message)``."""

    def __init__(self, host: Host, inbox: asyncio.Queue[tuple[str, Any]], run: int, planes: SimulatedPlanes) -> None:
        self.planes = planes  # for networks of one's own making: ``AgentNetwork(config, place.planes)``
        self._network: AgentNetwork | None = None
        self._host = host
        self._inbox = inbox
        self._run = run

    @property
    def name(self) -> str:
        """The host's."""
        return self._host.name

    @property
    def network(self) -> AgentNetwork:
        """An ``AgentNetwork`` that is not joined yet: join it, or use it with ``async with``."""
        if self._network is None:
            self._network = AgentNetwork(NetworkConfig(mesh="simulated", node_id=self._host.identity), self.planes)
        return self._network

    def send(self, address: str, message: Any, size: int = 0) -> None:
        """Send to whoever is at ``address``; it may be lost."""
        if self._is_alive:
            self._host.send(address, message, size)

    async def receive(self) -> tuple[str, Any]:
        """The next message, and who sent it."""
        return await self._inbox.get()

    def __aiter__(self) -> Self:
        """All of them, one after the other."""
        return self

    async def __anext__(self) -> tuple[str, Any]:
        """The next."""
        return await self._inbox.get()

    def observe(self, observation: Any) -> None:
        """Tell the checkers and the trace."""
        if self._is_alive:
            self._host.observe(observation)

    def random(self, purpose: str = "program") -> random.Random:
        """A random stream of its own."""
        return self._host.random(purpose)

    @property
    def _is_alive(self) -> bool:
        return self._host.process is not None and self._host.run == self._run


class CoroutineProcess(Process):
    """Runs ``main(place)``. An exception that it does not handle is a failure of the simulation."""

    def __init__(self, host: Host, main: Main) -> None:
        super().__init__(host)
        self.loop = VirtualLoop(lambda: host.now, self._failed)
        self._main = main
        self._failures: list[tuple[str, BaseException | None]] = []
        self._inbox: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self._remains: list[asyncio.Task[Any]] = []
        self._planes = SimulatedPlanes(host, self.loop)
        bits = host.random("message ids").getrandbits
        self.loop.context.run(message_sources.set, (lambda: host.wall_ms, lambda: f"{bits(128):032x}"))

    def start(self, now: float) -> None:
        """Begin ``main``."""
        place = Place(self.host, self._inbox, self.host.run, self._planes)
        task = self.loop.create_task(self._main(place), name=f"{self.host.name} main")
        task.add_done_callback(self._main_ended)
        self._run()

    def receive(self, now: float, sender: str, message: Any) -> None:
        """Let the network have what is its own; put all else into the inbox."""
        if not self._planes.receive(now, sender, message):
            self._inbox.put_nowait((sender, message))
        self._run()

    def disconnected(self, now: float, peer: str) -> None:
        """Connections closed: the network may have had one."""
        self._planes.disconnected(now, peer)
        self._run()

    def handle_timeout(self, now: float) -> None:
        """Run what is due."""
        self._planes.handle_timeout(now)
        self._run()

    def next_deadline(self) -> float | None:
        """The earlier of the loop's and the network's."""
        first, second = self.loop.next_deadline(), self._planes.next_deadline()
        return second if first is None else first if second is None else min(first, second)

    def ended(self) -> None:
        """Stop where it stands; what is suspended is kept, so that collecting it runs nothing in this world."""
        self._remains = self.loop.tasks()
        self.loop.close()
        self.host.world.graveyard.append(self)

    def bury(self) -> None:
        """The world is over: what is still suspended must not run on when it is collected, in whatever comes then."""
        bury(self.loop, self._remains)
        self._remains.clear()

    def _main_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed("its main coroutine raised", error)

    def _failed(self, message: str, error: BaseException | None) -> None:
        """Remembered and not raised: it may come while the interpreter collects garbage."""
        self._failures.append((message, error))

    def _run(self) -> None:
        self.loop.run_ready()
        if not self._failures:
            return
        message, error = self._failures[0]
        if isinstance(error, SimulationFailure):
            raise error
        told = f"{message}: {type(error).__name__}: {error}" if error is not None else message
        raise SafetyViolation(told, at=self.host.world.now, host=self.host.name) from error


def program(main: Main) -> Callable[[Host], CoroutineProcess]:
    """For ``World.add``: a host that runs this coroutine function."""
    return lambda host: CoroutineProcess(host, main)


def direct(world: World, scenario: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that directs the scenario: ``asyncio.sleep`` in it lets the world run on."""
    failures: list[BaseException] = []

    def failed(message: str, error: BaseException | None) -> None:
        failures.append(error or RuntimeError(message))

    loop = VirtualLoop(lambda: world.now, failed)
    task = loop.create_task(scenario, name="director")
    try:
        while True:
            loop.run_ready()
            if failures:
                raise failures[0]
            if task.done():
                return task.result()
            _advance(world, loop.next_deadline())
    finally:
        task.cancel()
        loop.run_ready()
        loop.close()


def _advance(world: World, deadline: float | None) -> None:
    """The next event of the world, or the time up to when the director has something to do."""
    if world.step(deadline if deadline is not None else float("inf")):
        return
    if deadline is None:
        raise SafetyViolation("the director waits, and nothing will ever happen", at=world.now)
    world.run_until(deadline)
