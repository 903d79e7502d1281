"""Finds the bug of ``HastyQueue`` by a seed, and holds for ``CarefulQueue``: the same code as for real, simulated.

cd examples/work_queue
pytest -k HastyQueue         # fails, and says how to see a failure again
pytest -k CarefulQueue       # passes; with --zmesh-seeds 1000 too
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from work_queue import CarefulQueue, HastyQueue, serve, work

from zmesh.testing import Draw, Place, Simulation

JOBS = [b"job %d" % number for number in range(60)]
WORKERS = {"worker2": 2, "worker3": 3, "worker4": 4}
FAULTS = [Draw("pause", befalls=1, for_s=(0.2, 2.0)), Draw("partition", befalls=1, for_s=(0.2, 2.0))]


class Shop:
    """A queue, three workers, and what they have done."""

    def __init__(self, simulation: Simulation, queue: HastyQueue) -> None:
        self.queue = queue
        self.done: Counter[bytes] = Counter()
        simulation.start("queue", lambda place: serve(place.network, queue))
        for name in WORKERS:
            simulation.start(name, self.worker)

    async def worker(self, place: Place) -> None:
        """The program of a worker's host."""

        async def do(job: bytes) -> None:
            await asyncio.sleep(0.5)
            self.done[job] += 1

        await work(place.network, WORKERS[place.name], do)

    def has_nothing_left(self) -> bool:
        """Whether every job has been done."""
        return len(self.done) == len(JOBS)


@pytest.mark.parametrize("kind", [HastyQueue, CarefulQueue])
@pytest.mark.simulated(seeds=30)
async def test_every_job_is_done_once(simulation: Simulation, heal: Callable[[], None], kind: type[HastyQueue]) -> None:
    """Whatever befalls them: the seed draws which of them are paused or cut off, when, and for how long."""
    shop = Shop(simulation, kind(JOBS))
    simulation.chaos(FAULTS, for_s=20.0)
    await asyncio.sleep(20.0)
    heal()
    await simulation.until(shop.has_nothing_left, within_s=30.0, what="every job is done")
    assert set(shop.done.values()) == {1}


@pytest.mark.simulated(seeds=5)
async def test_a_worker_that_is_cut_off_is_not_waited_for(
    simulation: Simulation, cut: Callable[..., None], heal: Callable[[], None]
) -> None:
    """Faults by hand."""
    shop = Shop(simulation, CarefulQueue(JOBS))
    await simulation.until(lambda: shop.done, within_s=5.0)
    cut("worker2")
    await simulation.until(lambda: sum(shop.done.values()) >= len(JOBS) - 1, within_s=30.0)
    heal()
    await simulation.until(shop.has_nothing_left, within_s=10.0)
    assert set(shop.done.values()) == {1}
