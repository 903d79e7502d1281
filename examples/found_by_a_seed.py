"""A bug in somebody's agents, found by a seed of the simulator, made small, and put right.

    python examples/found_by_a_seed.py

Workers take turns at writing to a store: who holds the lock of the lock server writes. A lease ends by itself, so that
a dead worker blocks nobody, and a worker looks at its clock before every write. It looks right, and it is wrong: a
message may be long under way, and its lease may end before it arrives. The cure is a fencing token, which the store
checks. No sockets, no waiting: a minute of network, with cuts, clogs, pauses and crashes, takes some milliseconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from zmesh.testing import (
    Checker,
    Draw,
    Host,
    Outcome,
    Place,
    Scenario,
    Settings,
    Subject,
    draw_scenario,
    program,
    run_trial,
    shrink,
)

LEASE_S = 2.0
LOCKS, STORE = "n0", "n1"  # the others are workers
SEEDS = 200


@dataclass(frozen=True)
class Written:
    """The store has taken a write of the holder with this token."""

    token: int


async def lock_server(place: Place) -> None:
    """Gives the lock to one worker at a time, with a number that grows."""
    clock = asyncio.get_running_loop().time
    token, free_at = 0, clock() + LEASE_S  # after a restart, whoever held it may hold it still
    async for worker, question in place:
        if clock() >= free_at:
            token, free_at = max(token + 1, int(clock() * 1000)), clock() + LEASE_S
            place.send(worker, (question, token))


async def worker(place: Place) -> None:
    """Takes the lock, and writes while its lease lasts."""
    clock = asyncio.get_running_loop().time
    while True:
        asked_at = clock()
        place.send(LOCKS, asked_at)
        try:
            async with asyncio.timeout(0.5):
                question, token = None, 0
                while question != asked_at:  # else it is the answer to an older question, and the lease is over
                    _, (question, token) = await place.receive()
        except TimeoutError:
            continue
        while clock() < asked_at + LEASE_S:
            place.send(STORE, token)
            await asyncio.sleep(0.3)


async def careless_store(place: Place) -> None:
    """Takes every write."""
    async for _, token in place:
        place.observe(Written(token))


async def fencing_store(place: Place) -> None:
    """Takes no write of a holder after one of a later holder."""
    newest = 0
    async for _, token in place:
        if token >= newest:
            newest = token
            place.observe(Written(token))


class OneAfterTheOther(Checker):
    """No write of an earlier holder comes after one of a later holder."""

    newest = 0

    def observed(self, host: Host, observation: Any) -> None:
        """Judge what the store took."""
        if isinstance(observation, Written):
            if observation.token < self.newest:
                self.world.fail(host, f"written by {observation.token}, after {self.newest} had the lock")
            self.newest = observation.token


class Careless(Subject):
    """A lock server, a store and three workers."""

    store = staticmethod(careless_store)
    settings = Settings(
        "leases",
        nodes=5,
        fault_s=60.0,
        max_loss=0.1,
        draws=(
            Draw("pause", befalls=1, for_s=(0.1, 5.0)),
            Draw("partition", befalls=0, for_s=(0.1, 5.0)),
            Draw("clog", befalls=1, for_s=(0.1, 5.0)),
            Draw("disconnect", befalls=2),
        ),
    )

    def build(self) -> None:
        """Start everybody."""
        self.world.watch(OneAfterTheOther(self.world))
        for number in range(self.scenario.nodes):
            main = {0: lock_server, 1: self.store}.get(number, worker)
            self.world.add(f"n{number}", program(main)).start()

    def complaints(self) -> list[str]:
        """Nothing in particular is demanded after the faults."""
        return []


class Fencing(Careless):
    """The same, with a store that looks at tokens."""

    store = staticmethod(fencing_store)


def first_failure(subject: type[Subject]) -> Outcome | None:
    """The first seed that fails."""
    outcomes = (run_trial(draw_scenario(subject.settings, seed), subject) for seed in range(SEEDS))
    return next((outcome for outcome in outcomes if outcome.is_failure), None)


def main() -> None:
    """Find it, make it small, put it right."""
    found = first_failure(Careless)
    if found is None:
        raise SystemExit(f"{SEEDS} seeds hold: the bug hides well")
    print(f"seed {found.scenario.seed} fails: {found.failure}")
    print(f"  among {len(found.scenario.faults)} faults and {found.statistics.events} events")

    def run(scenario: Scenario) -> Outcome:
        return run_trial(scenario, Careless)

    small = shrink(found, run)
    print(f"made small in {small.trials} trials: {small.outcome.failure}")
    for fault in small.outcome.scenario.faults:
        print(f"  {fault.at:.2f} s: {fault.kind} of {', '.join(fault.hosts)} for {fault.for_s:.2f} s")

    if first_failure(Fencing) is not None:
        raise SystemExit("the cure does not help")
    print(f"with fencing tokens, {SEEDS} seeds hold")


if __name__ == "__main__":
    main()
