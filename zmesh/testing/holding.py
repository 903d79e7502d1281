"""For tests: a seed holds, or the test fails with all that is needed to see the failure again."""

from __future__ import annotations

from zmesh.testing.report import describe
from zmesh.testing.scenario import Scenario, draw_scenario
from zmesh.testing.subjects import name_of
from zmesh.testing.trial import Outcome, Subject, run_trial

__all__ = ["assert_holds"]


def assert_holds(subject_class: type[Subject], seed: int | Scenario) -> Outcome:
    """Run the scenario of a seed, or a given one. Raises ``AssertionError`` with the report if it fails."""
    scenario = seed if isinstance(seed, Scenario) else draw_scenario(subject_class.settings, seed)
    outcome = run_trial(scenario, subject_class)
    if outcome.is_failure:
        raise AssertionError(describe(outcome, name_of(subject_class), scenario=not isinstance(seed, int)))
    return outcome
