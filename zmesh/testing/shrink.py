"""Makes a scenario that fails smaller, while it still fails in the same way.

Every step proposes a simpler scenario (fewer faults, fewer nodes, less time, a kinder network) and keeps it if the
trial fails with the same signature. Faults are dropped as in delta debugging (Zeller and Hildebrandt, 2002): big
parts first, then single ones. It ends when no step helps, so that each fault that is left is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from zmesh.errors import check
from zmesh.testing.faults import Fault
from zmesh.testing.scenario import PLAIN_DELAY_S, Scenario, names_of
from zmesh.testing.trial import Outcome

__all__ = ["Shrunk", "shrink"]

MAX_TRIALS: Final = 1000  # a trial takes a fraction of a second, and few scenarios need half as many
SLACK_S: Final = 2.0  # after the failure: the next simplification may make it come a little later


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest failing scenario found, and how many trials it took."""

    outcome: Outcome
    trials: int


def shrink(outcome: Outcome, run: Callable[[Scenario], Outcome], *, max_trials: int = MAX_TRIALS) -> Shrunk:
    """Shrink the scenario of a failed trial; ``run`` runs one."""
    check(outcome.is_failure, "a trial that did not fail cannot be shrunk")
    search = _Search(outcome, run, max_trials)
    while search.improve():
        pass
    return Shrunk(search.best, search.trials)


class _Search:
    def __init__(self, outcome: Outcome, run: Callable[[Scenario], Outcome], max_trials: int) -> None:
        self.best = outcome
        self.trials = 0
        self._run = run
        self._max_trials = max_trials
        self._signature = outcome.signature

    def improve(self) -> bool:
        """One round of all steps; whether any helped."""
        before = self.best.scenario
        self._drop_faults()
        for step in (_end_earlier, _fewer_nodes, _fewer_hosts, _kinder, _shorter_faults, _sooner):
            while any(self._try(candidate) for candidate in step(self.best)):
                pass
        return self.best.scenario != before

    def _try(self, candidate: Scenario) -> bool:
        if self.trials >= self._max_trials or candidate == self.best.scenario:
            return False
        self.trials += 1
        outcome = self._run(candidate)
        if outcome.signature != self._signature:
            return False
        self.best = outcome
        return True

    def _drop_faults(self) -> None:
        size = len(self.best.scenario.faults)
        while size:
            start = 0
            while start < len(self.best.scenario.faults):
                faults = self.best.scenario.faults
                if not self._try(replace(self.best.scenario, faults=faults[:start] + faults[start + size :])):
                    start += size
            size //= 2


def _end_earlier(outcome: Outcome) -> Iterator[Scenario]:
    """What has not begun when it fails is not needed; and perhaps much less will do."""
    scenario = outcome.scenario
    last = max((fault.at for fault in scenario.faults), default=0.0)
    for end in (outcome.ended_at + SLACK_S, last + SLACK_S, scenario.fault_s / 2):
        if end < scenario.fault_s * 0.9:
            kept = tuple(fault for fault in scenario.faults if fault.at < end)
            yield replace(scenario, fault_s=round(end, 3), faults=kept)


def _fewer_nodes(outcome: Outcome) -> Iterator[Scenario]:
    scenario = outcome.scenario
    if scenario.nodes <= 1:
        return
    left = names_of(scenario.nodes - 1)
    yield replace(scenario, nodes=len(left), faults=_among(scenario.faults, left))
    if scenario.nodes > 2:  # perhaps it was the wrong one: let another take the place of the last
        last = names_of(scenario.nodes)[-1]
        for name in left:
            renamed = tuple(replace(f, hosts=tuple(name if h == last else h for h in f.hosts)) for f in scenario.faults)
            yield replace(scenario, nodes=len(left), faults=_among(renamed, left))


def _fewer_hosts(outcome: Outcome) -> Iterator[Scenario]:
    """Faults that befall fewer. One that needs a pair raises with less, which is another failure, and so no success."""
    faults = outcome.scenario.faults
    for index, fault in enumerate(faults):
        for host in fault.hosts if len(fault.hosts) > 1 else ():
            fewer = replace(fault, hosts=tuple(other for other in fault.hosts if other != host))
            yield replace(outcome.scenario, faults=(*faults[:index], fewer, *faults[index + 1 :]))


def _among(faults: tuple[Fault, ...], names: list[str]) -> tuple[Fault, ...]:
    """The faults that still make sense with these nodes."""
    reduced = (replace(f, hosts=tuple(dict.fromkeys(host for host in f.hosts if host in names))) for f in faults)
    return tuple(new for new, old in zip(reduced, faults, strict=True) if new.hosts or not old.hosts)


def _kinder(outcome: Outcome) -> Iterator[Scenario]:
    scenario = outcome.scenario
    yield replace(scenario, loss=0.0)
    yield replace(scenario, duplicate=0.0)
    yield replace(scenario, reorder=0.0)
    yield replace(scenario, skew_s=0.0)
    yield replace(scenario, drift=0.0)
    yield replace(scenario, delay_s=PLAIN_DELAY_S)


def _shorter_faults(outcome: Outcome) -> Iterator[Scenario]:
    faults = outcome.scenario.faults
    for index, fault in enumerate(faults):
        if fault.for_s > 0.1:
            shorter = replace(fault, for_s=round(fault.for_s / 2, 3))
            yield replace(outcome.scenario, faults=(*faults[:index], shorter, *faults[index + 1 :]))


def _sooner(outcome: Outcome) -> Iterator[Scenario]:
    """Half of the quiet time before each fault goes, for it and all that follow."""
    faults, previous = outcome.scenario.faults, 0.0
    for index, fault in enumerate(faults):
        gain = round((fault.at - previous) / 2, 3)
        if gain >= 0.5:
            moved = tuple(replace(later, at=round(later.at - gain, 3)) for later in faults[index:])
            yield replace(outcome.scenario, faults=(*faults[:index], *moved))
        previous = fault.at
