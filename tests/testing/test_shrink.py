"""A failing scenario is made small, and stays a failing one of the same kind."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import islice

import pytest

from tests.testing.bugs import BuggySubject
from zmesh.errors import InternalError
from zmesh.testing.scenario import Scenario, draw_scenario, from_json, to_json
from zmesh.testing.shrink import shrink
from zmesh.testing.trial import Outcome, run_trial


def run(scenario: Scenario) -> Outcome:
    return run_trial(scenario, BuggySubject)


@cache
def failing(count: int) -> list[Outcome]:
    outcomes = (run(draw_scenario(BuggySubject.settings, seed)) for seed in range(60))
    return list(islice((outcome for outcome in outcomes if outcome.is_failure), count))


def test_what_is_left_is_what_the_bug_needs() -> None:
    found = failing(4)
    assert len(found) == 4
    for outcome in found:
        shrunk = shrink(outcome, run)
        scenario = shrunk.outcome.scenario
        assert sorted(fault.kind for fault in scenario.faults) == ["cut_out", "kill"], outcome.scenario.seed
        assert (scenario.nodes, scenario.loss, scenario.drift, scenario.skew_s) == (2, 0.0, 0.0, 0.0)
        assert scenario.fault_s < 10.0
        assert shrunk.trials < 400
        assert shrunk.outcome.signature == outcome.signature
        again = run(from_json(to_json(scenario)))
        assert again == shrunk.outcome


def test_without_any_of_its_faults_it_does_not_fail() -> None:
    scenario = shrink(failing(1)[0], run).outcome.scenario
    for index in range(len(scenario.faults)):
        faults = scenario.faults[:index] + scenario.faults[index + 1 :]
        assert not run(replace(scenario, faults=faults)).is_failure


def test_it_does_not_slip_to_another_bug() -> None:
    """A scenario with an unknown kind of fault fails too, but differently."""
    outcome = failing(1)[0]
    first = outcome.scenario.faults[0]
    slippery = replace(first, kind="unheard of", at=outcome.ended_at + 1.0)
    with_trap = run(replace(outcome.scenario, faults=(*outcome.scenario.faults, slippery)))
    assert with_trap.signature == outcome.signature
    assert shrink(with_trap, run).outcome.signature == outcome.signature


def test_only_a_failure_can_be_shrunk_and_trials_are_bounded() -> None:
    fine = run(Scenario("bug", 1, 2, 5.0, 5.0))
    assert not fine.is_failure
    with pytest.raises(InternalError):
        shrink(fine, run)
    assert shrink(failing(1)[0], run, max_trials=7).trials == 7


def test_signatures_tell_bugs_apart_and_not_their_details() -> None:
    def outcome(failure: str) -> Outcome:
        return replace(failing(1)[0], failure=failure)

    one = outcome("safety violation, 5.077877 s at n0: n1 was silent for 2.1 s")
    assert one.signature == outcome("safety violation, 6.1 s at n3: n2 was silent for 3 s").signature
    assert one.signature != outcome("safety violation, 5.077877 s at n0: something else").signature
    assert outcome("liveness failure, 5 s: after 20.0 s without faults: x").signature == "liveness failure: "
    assert outcome("").signature == ""
