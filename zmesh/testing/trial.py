"""One trial: build the subject, let the faults of the scenario happen, heal everything, demand convergence."""

from __future__ import annotations

import gc
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Final

from zmesh.testing.checkers import LivenessFailure, SimulationFailure
from zmesh.testing.faults import Begin, Nemesis
from zmesh.testing.randomness import stream
from zmesh.testing.scenario import Scenario, Settings
from zmesh.testing.world import World, WorldStatistics

__all__ = ["Outcome", "Subject", "run_trial"]


FRAMES_SHOWN: Final = 4
COLLECT_AFTER: Final = 50_000  # objects made and not freed


class Subject:
    """What is under test. ``settings`` says what it must endure; ``kinds`` are faults that only it knows."""

    settings: ClassVar[Settings]
    kinds: ClassVar[Mapping[str, Begin]] = {}

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario

    def build(self) -> None:
        """Add the hosts (named by ``names_of``), start them, and let the checkers watch."""
        raise NotImplementedError

    def complaints(self) -> list[str]:
        """What keeps it from having converged."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial went. ``digest`` is the fingerprint of the whole run, up to its failure if it failed."""

    scenario: Scenario
    digest: str
    statistics: WorldStatistics
    failure: str = ""  # the kind of failure and what it says
    ended_at: float = 0.0  # simulated time
    settled_s: float = 0.0  # from the healing to the convergence
    place: str = field(default="", compare=False)  # of an exception: the last lines of its traceback

    @property
    def is_failure(self) -> bool:
        """Whether something was wrong."""
        return bool(self.failure)

    @property
    def signature(self) -> str:
        """What kind of failure it is, without times, numbers and names: equal for two faces of one bug."""
        kind, _, what = self.failure.partition(": ")
        what = "" if kind.startswith(LivenessFailure.kind) else what
        return re.sub(r"\d[\d.]*|\bn#", "#", f"{kind.partition(',')[0]}: {what}") if self.failure else ""


def run_trial(scenario: Scenario, subject_class: type[Subject], *, full_trace: bool = False) -> Outcome:
    """Run a scenario. Whatever goes wrong, an exception in a machine included, is in the outcome."""
    with _few_collections():
        return _run_and_judge(scenario, subject_class, full_trace)


def _run_and_judge(scenario: Scenario, subject_class: type[Subject], full_trace: bool) -> Outcome:
    world = World(scenario.seed, conditions=scenario.conditions, full_trace=full_trace)
    failure, place, settled_s = "", "", 0.0
    try:
        settled_s = _run(world, subject_class(world, scenario), scenario)
    except SimulationFailure as error:
        failure = str(error)
    except Exception as error:  # noqa: BLE001 - any exception of what is under test is a finding, not an accident
        failure = f"exception, {world.now:.6f} s: {type(error).__name__}: {error}"
        place = "".join(traceback.format_tb(error.__traceback__)[-FRAMES_SHOWN:])
    digest, statistics, ended_at = world.trace.digest(), world.statistics(), world.now
    world.close()
    return Outcome(scenario, digest, statistics, failure, ended_at, settled_s, place)


def _run(world: World, subject: Subject, scenario: Scenario) -> float:
    nemesis = Nemesis(world, subject.kinds)
    subject.build()
    _set_clocks(world, scenario)
    nemesis.schedule(scenario.faults)
    world.run_until(scenario.fault_s)
    nemesis.heal()
    return world.converge(subject.complaints, scenario.settle_s)


@contextmanager
def _few_collections() -> Iterator[None]:
    """A simulation makes few cycles, and so many objects that to look for cycles often takes a tenth of its time."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], COLLECT_AFTER), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _set_clocks(world: World, scenario: Scenario) -> None:
    for name, host in world.hosts.items():
        chance = stream(scenario.seed, "clock", name)
        if scenario.skew_s:
            host.clock.step_wall(chance.uniform(-scenario.skew_s, scenario.skew_s))
        if scenario.drift:
            host.drift(1.0 + chance.uniform(-scenario.drift, scenario.drift))
