"""How fast the simulator is: what bounds how much can be proved in it.

Run: ``python perf/simulator.py``. ``engine/N`` has N hosts of which each beats to ten others once a second, with
next to nothing in the machine: the event loop itself. ``seeds/SUBJECT`` runs whole trials of zmesh's own machines,
with faults and checkers. All figures are for one core. ``--profile engine/1000`` shows where the time of a case goes.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from _report import Contender, Measured, Results, benchmark_parser, run_interleaved

from zmesh.testing import Host, Process, World, draw_scenario, run_trial
from zmesh.testing.subjects import SUBJECTS, resolve

NEIGHBOURS = 10
SIZES = {5: 4000.0, 1000: 20.0, 10_000: 4.0}  # simulated seconds for each number of hosts: about as many events
SEEDS = 40


class Beater(Process):
    """Beats to its neighbours once a second, and remembers who was heard when."""

    def __init__(self, host: Host, neighbours: list[str]) -> None:
        super().__init__(host)
        self.neighbours = neighbours
        self.heard: dict[str, float] = {}
        self.beat_at = 0.0

    def start(self, now: float) -> None:
        self.beat_at = now + self.host.random("beat").random()

    def receive(self, now: float, sender: str, message: Any) -> None:
        self.heard[sender] = now

    def handle_timeout(self, now: float) -> None:
        for neighbour in self.neighbours:
            self.host.send(neighbour, now, 40)
        self.beat_at = now + 1.0

    def next_deadline(self) -> float | None:
        return self.beat_at


def measure_engine(hosts: int, simulated_s: float) -> Measured:
    """The event loop with ``hosts`` hosts."""
    world = World(1)
    names = [f"n{number}" for number in range(hosts)]
    for number, name in enumerate(names):
        others = [names[(number + i + 1) % hosts] for i in range(min(NEIGHBOURS, hosts - 1))]
        world.add(name, partial(Beater, neighbours=others)).start()
    gc.collect()
    started = time.process_time()
    world.run_for(simulated_s)
    cpu_s = time.process_time() - started
    return {
        "events_per_cpu_second": world.events / cpu_s,
        "cpu_s_per_simulated_minute": cpu_s / simulated_s * 60.0,
    }


def measure_seeds(subject: str, seeds: int) -> Measured:
    """Whole trials."""
    subject_class = resolve(subject)
    scenarios = [draw_scenario(subject_class.settings, seed) for seed in range(seeds)]
    started = time.process_time()
    outcomes = [run_trial(scenario, subject_class) for scenario in scenarios]
    cpu_s = time.process_time() - started
    return {
        "seeds_per_cpu_second": seeds / cpu_s,
        "events_per_cpu_second": sum(outcome.statistics.events for outcome in outcomes) / cpu_s,
    }


def cases(scale: float) -> Iterator[tuple[str, Callable[[], Measured]]]:
    """Each case and what measures it."""
    for hosts, simulated_s in SIZES.items():
        yield f"engine/{hosts}", partial(measure_engine, hosts, simulated_s * scale)
    for subject in SUBJECTS:
        yield f"seeds/{subject}", partial(measure_seeds, subject, max(1, int(SEEDS * scale)))


def show_profile(measure: Callable[[], Measured]) -> None:
    """Where the time goes, by function."""
    profile = cProfile.Profile()
    profile.runcall(measure)
    pstats.Stats(profile).sort_stats("tottime").print_stats(20)


def main() -> None:
    parser: argparse.ArgumentParser = benchmark_parser(__doc__ or "")
    parser.add_argument("--profile", metavar="CASE", help="profile this case, and measure nothing")
    arguments = parser.parse_args()
    results = Results(())
    for case, measure in cases(arguments.scale):
        if arguments.profile:
            if case == arguments.profile:
                show_profile(measure)
        elif case.endswith(arguments.case):
            run_interleaved(results, case, [Contender("zmesh", "simulator", measure)], arguments.runs)
    if arguments.json:
        results.write_json(arguments.json)


if __name__ == "__main__":
    main()
