"""Disk faults in scenarios: a careful journal loses nothing, and each kind of carelessness is found out."""

from __future__ import annotations

import re

import pytest

from tests.testing.journal import JournalProcess, JournalSubject
from zmesh.testing import Draw, Process, Settings, assert_holds, draw_scenario, run_trial
from zmesh.testing.faults import KINDS

SEEDS = 100


@pytest.mark.parametrize("seed", range(30))
def test_a_careful_journal_loses_nothing(seed: int) -> None:
    assert_holds(JournalSubject, seed)


@pytest.mark.parametrize(
    ("carelessness", "complaint"),
    [
        ("syncs", "what was secured is gone|believes in garbage"),
        ("syncs_directory", "what was secured is gone"),
        ("checks", "believes in garbage"),
        ("gives_up_on_errors", "what was secured is gone"),
    ],
)
def test_each_carelessness_is_found_out(carelessness: str, complaint: str) -> None:
    careless = type("Careless", (JournalProcess,), {carelessness: False})
    subject = type("CarelessSubject", (JournalSubject,), {"process_class": careless})
    outcomes = (run_trial(draw_scenario(JournalSubject.settings, seed), subject) for seed in range(SEEDS))
    found = next((outcome.failure for outcome in outcomes if outcome.is_failure), "")
    assert re.search(complaint, found), found


def test_a_flipped_bit_costs_a_careful_journal_what_is_behind_it() -> None:
    """No checksum brings a bit back: what was secured is lost, and said to be; that is what replicas are for."""
    settings = Settings("journal", nodes=1, fault_s=20.0, draws=(Draw("flip_bit", 1), Draw("kill", 1, (0.1, 0.5))))
    subject = type("Flipped", (JournalSubject,), {"settings": settings})
    failures = {run_trial(draw_scenario(settings, seed), subject).signature for seed in range(30)}
    assert failures == {"", "safety violation: what was secured is gone"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_begins_and_ends_without_an_error(kind: str) -> None:
    class Three(JournalSubject):
        def build(self) -> None:
            super().build()
            for name in ("n1", "n2"):
                self.world.add(name, Process).start()
            for host in self.world.hosts.values():
                host.newer = host.program

    amount = {"drift": (0.9, 1.1), "throttle": (100.0, 1000.0)}.get(kind, (0.01, 0.1))
    draw = Draw(kind, 2 if kind == "disconnect" else 1, (0.1, 2.0), amount)
    Three.settings = Settings("journal", nodes=3, fault_s=20.0, faults_per_minute=60.0, draws=(draw,) * 8)
    outcome = run_trial(draw_scenario(Three.settings, 4), Three)
    assert outcome.scenario.faults
    assert outcome.signature in ("", "safety violation: what was secured is gone" if kind == "flip_bit" else "")
