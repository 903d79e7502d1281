"""Rolling upgrades as a fault: versions that understand each other, and such that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from zmesh.testing import Fault, Host, Process
from zmesh.testing.scenario import Draw, Scenario, Settings, draw_scenario, from_json, names_of, to_json
from zmesh.testing.shrink import shrink
from zmesh.testing.trial import Outcome, Subject, run_trial

BEAT_S = 0.2


class Old(Process):
    """Says its number to everybody; understands that, and nothing else."""

    def __init__(self, host: Host, peers: list[str]) -> None:
        super().__init__(host)
        self.peers = [peer for peer in peers if peer != host.name]
        self.beat_at = 0.0
        self.numbers: dict[str, int] = {}

    def start(self, now: float) -> None:
        self.beat_at = now

    def frame(self) -> Any:
        return (self.host.number,)

    def handle_timeout(self, now: float) -> None:
        self.beat_at = now + BEAT_S
        for peer in self.peers:
            self.host.send(peer, self.frame(), 20)

    def next_deadline(self) -> float | None:
        return self.beat_at

    def receive(self, now: float, sender: str, message: Any) -> None:
        number = message[0]
        if not isinstance(number, int):
            self.host.world.fail(self.host, f"cannot read a frame of {sender}")
        self.numbers[sender] = number


class Newer(Old):
    """Appends a field, which the old version does not look at."""

    def frame(self) -> Any:
        return (self.host.number, "more")


class Breaking(Old):
    """Puts another field first."""

    def frame(self) -> Any:
        return ("more", self.host.number)

    def receive(self, now: float, sender: str, message: Any) -> None:
        super().receive(now, sender, message if isinstance(message[0], int) else message[1:])


class Upgraded(Subject):
    newer: ClassVar[type[Old]] = Newer
    settings: ClassVar[Settings] = Settings(
        "upgraded",
        nodes=4,
        fault_s=60.0,
        settle_s=5.0,
        draws=(
            Draw("upgrade", -1, (2.0, 30.0), (0.2, 2.0)),
            Draw("kill", 1, (0.1, 5.0)),
            Draw("pause", 1, (0.1, 5.0)),
            Draw("partition", 0, (0.1, 5.0)),
        ),
    )

    def build(self) -> None:
        names, newer = names_of(self.scenario.nodes), self.newer
        for name in names:
            host = self.world.add(name, lambda host: Old(host, names), newer=lambda host: newer(host, names))
            host.start()

    def complaints(self) -> list[str]:
        nodes = [host.process for host in self.world.hosts.values()]
        return [node.host.name for node in nodes if isinstance(node, Old) and len(node.numbers) < len(nodes) - 1]


class Broken(Upgraded):
    newer = Breaking


def has_upgrade(scenario: Scenario) -> bool:
    return any(fault.kind == "upgrade" for fault in scenario.faults)


def run_broken(scenario: Scenario) -> Outcome:
    return run_trial(scenario, Broken)


@pytest.mark.parametrize("seed", range(20))
def test_versions_that_understand_each_other_get_through(seed: int) -> None:
    assert run_trial(draw_scenario(Upgraded.settings, seed), Upgraded).failure == ""


def test_a_version_that_breaks_the_frames_of_the_old_one_is_caught_and_only_by_the_upgrade() -> None:
    scenarios = [draw_scenario(Upgraded.settings, seed) for seed in range(20)]
    caught = [run_broken(scenario).is_failure for scenario in scenarios]
    assert caught == [has_upgrade(scenario) for scenario in scenarios]
    assert 3 < sum(caught) < 20


def test_the_seed_replays_exactly_and_its_scenario_as_json_too() -> None:
    scenario = next(s for s in (draw_scenario(Upgraded.settings, seed) for seed in range(20)) if has_upgrade(s))
    outcomes = [run_trial(s, Upgraded, full_trace=True) for s in (scenario, scenario, from_json(to_json(scenario)))]
    assert len({outcome.digest for outcome in outcomes}) == 1
    without = replace(scenario, faults=tuple(fault for fault in scenario.faults if fault.kind != "upgrade"))
    assert run_trial(without, Upgraded, full_trace=True).digest != outcomes[0].digest


def test_the_upgrade_is_what_is_left_of_a_shrunk_scenario() -> None:
    scenario = next(s for s in (draw_scenario(Upgraded.settings, seed) for seed in range(20)) if has_upgrade(s))
    shrunk = shrink(run_broken(scenario), run_broken).outcome.scenario
    assert [fault.kind for fault in shrunk.faults] == ["upgrade"]


def test_hosts_are_restarted_one_after_the_other_and_those_not_come_to_stay_old() -> None:
    class Watched(Upgraded):
        versions: ClassVar[list[list[str]]] = []

        def build(self) -> None:
            super().build()
            for at in (9.9, 10.5, 11.5, 12.5, 20.0):
                self.world.at(at, self.note)

        def note(self) -> None:
            up = [type(host.process).__name__ for host in self.world.hosts.values() if host.is_up]
            self.versions.append(up)

    rollout = Fault("upgrade", 10.0, 1.7, ("n2", "n0", "n1"), 1.0)
    assert run_trial(Scenario("upgraded", 1, 3, 30.0, 5.0, faults=(rollout,)), Watched).failure == ""
    assert Watched.versions == [
        ["Old", "Old", "Old"],
        ["Old", "Old"],  # n2 is down
        ["Old", "Newer"],  # n2 is up again, n0 down
        ["Newer", "Old", "Newer"],  # it ended before n1
        ["Newer", "Old", "Newer"],
    ]


def test_a_host_without_a_newer_program_cannot_be_upgraded() -> None:
    class NoNewer(Upgraded):
        def build(self) -> None:
            super().build()
            for host in self.world.hosts.values():
                host.newer = None

    rollout = Fault("upgrade", 10.0, 5.0, ("n1",), 1.0)
    outcome = run_trial(Scenario("upgraded", 1, 3, 30.0, 5.0, faults=(rollout,)), NoNewer)
    assert "needs a newer program" in outcome.failure
