"""Many nodes, one virtual clock, many seeds: nobody healthy is declared dead, and after the faults all agree."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.core.membership.mesh import TIMINGS, Mesh
from zmesh.core.membership.approach import Approach
from zmesh.core.membership.exchange import Exchange
from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import Member, MembershipTimings
from zmesh.core.membership.messages import Goodbye, MemberEventKind, NodeRecord
from zmesh.core.membership.pulse import Pulse
from zmesh.testing import assert_holds
from zmesh.testing.subjects.membership import MembershipSubject

NAMES = ["a", "b", "c", "d", "e"]


def start_all(mesh: Mesh, names: list[str] = NAMES, quiet_s: float = 3.0) -> None:
    for name in names:
        mesh.start(name, seed=names[0] if name != names[0] else None)
    mesh.run_for(quiet_s)


@pytest.mark.parametrize("seed", range(25))
def test_no_healthy_node_is_declared_dead_and_all_agree_in_the_end(seed: int) -> None:
    assert_holds(MembershipSubject, seed)


# -- scenarios -------------------------------------------------------------------------------------------------------


def killed_is_noticed_fast(machine: type[Membership]) -> None:
    mesh = Mesh(1, machine=machine)
    start_all(mesh)
    for round_ in range(8):
        mesh.run_for(0.071 * round_)
        died_at = mesh.now
        mesh.hosts["c"].kill()
        mesh.run_for(0.9)
        for observer in "abde":
            when, kind = mesh.last_told(observer, "c")
            assert kind is MemberEventKind.DIED
            assert when - died_at < 0.7
        mesh.start("c", seed="a")
        mesh.run_for(5.0)
        assert mesh.disagreements() == []


def closed_connections_kill_nobody(machine: type[Membership]) -> None:
    mesh = Mesh(2, machine=machine)
    start_all(mesh)
    for _ in range(60):
        mesh.hint(mesh.random.choice("ab"), mesh.random.choice("cde"))
        mesh.run_for(mesh.random.uniform(0.0, 0.3))
    assert all("suspected" not in mesh.kinds(observer, name) for observer in NAMES for name in NAMES)


def a_pause_of_our_own_kills_nobody(machine: type[Membership]) -> None:
    for seed in range(6):
        mesh = Mesh(seed, machine=machine)
        start_all(mesh)
        mesh.hosts["a"].pause()
        mesh.run_for(mesh.random.uniform(1.0, 10.0))
        mesh.hosts["a"].resume()
        mesh.run_for(0.3)
        assert all(event.kind is not MemberEventKind.DIED for _, event in mesh["a"].events)
        mesh.run_for(8.0)
        assert mesh.disagreements() == []


def the_stopped_comes_back_as_itself(machine: type[Membership]) -> None:
    mesh = Mesh(3, machine=machine)
    start_all(mesh)
    mesh.hosts["c"].pause()
    mesh.run_for(6.0)
    assert mesh.kinds("a", "c") == ["joined", "suspected", "died"]
    mesh.hosts["c"].resume()
    mesh.run_for(1.0)
    assert mesh.kinds("a", "c") == ["joined", "suspected", "died", "recovered"]
    mesh.run_for(6.0)
    assert mesh.disagreements() == []


def a_long_partition_heals(machine: type[Membership]) -> None:
    mesh = Mesh(4, machine=machine)
    start_all(mesh)
    for name in NAMES:
        mesh[name].seeds = ()  # that would find them too
    for here in "ab":
        for there in "cde":
            mesh.cut(here, there)
            mesh.cut(there, here)
    mesh.run_for(20.0)
    assert sorted(mesh["a"].view()) == ["a", "b"]
    assert sorted(mesh["c"].view()) == ["c", "d", "e"]
    mesh.heal()
    mesh.run_for(8.0)
    assert mesh.disagreements() == []


def third_nodes_are_found(machine: type[Membership]) -> None:
    mesh = Mesh(5, machine=machine)
    mesh.start("a")
    mesh.start("b", seed="a")
    mesh.start("c", seed="b")
    mesh.run_for(4.0)
    assert mesh.disagreements() == []


def a_late_goodbye_of_the_last_incarnation_is_ignored(machine: type[Membership]) -> None:
    mesh = Mesh(6, machine=machine)
    start_all(mesh, ["a", "b"])
    old = mesh["b"].record.incarnation
    mesh.hosts["b"].power_off()
    mesh.start("b", seed="a")
    mesh.run_for(0.5)
    assert mesh.kinds("a", "b") == ["joined", "restarted"]
    a = mesh["a"]
    mesh.hosts["a"].call(a.receive, "b", ("a", Goodbye(old)))
    mesh.run_for(0.5)
    assert mesh.kinds("a", "b") == ["joined", "restarted"]
    assert mesh.disagreements() == []


def the_one_who_left_is_not_missed(machine: type[Membership]) -> None:
    mesh = Mesh(7, machine=machine)
    start_all(mesh)
    mesh.leave("c")
    mesh.run_for(6.0)
    assert mesh.kinds("a", "c") == ["joined", "left"]
    assert mesh.disagreements() == []


def the_moved_is_found(machine: type[Membership]) -> None:
    mesh = Mesh(8, machine=machine)
    start_all(mesh)
    mesh.move("c", "elsewhere")
    mesh.run_for(1.0)
    assert mesh.disagreements() == []
    assert {mesh[name].routes["c"] for name in "abde"} == {"elsewhere"}
    assert set(mesh.kinds("a", "c")) == {"joined", "changed"}
    mesh.run_for(5.0)
    assert all("suspected" not in mesh.kinds(name, "c") for name in NAMES)


def of_two_namesakes_the_younger_is_heeded(machine: type[Membership]) -> None:
    mesh = Mesh(9, machine=machine)
    start_all(mesh, ["a", "b", "c"])
    older = mesh.hosts["c"]
    mesh.start("c", address="second", seed="a")
    mesh.run_for(20.0)
    a = mesh["a"]
    assert mesh.kinds("a", "c") == ["joined", "restarted"]
    assert a.view()["c"] == (mesh["c"].record.incarnation, 1)
    assert [r.kind for r in a.reports] == ["duplicate_name"]
    assert older.is_up


def a_new_record_is_fetched(machine: type[Membership]) -> None:
    mesh = Mesh(10, machine=machine)
    start_all(mesh)
    sent = mesh.world.statistics().sent
    for _ in range(50):
        mesh.update("b")
        mesh.run_for(0.002)
    assert (
        mesh.world.statistics().sent - sent < 120
    )  # 50 changes in 0.1 s for 4 others: a heartbeat for each would be 200
    mesh.run_for(0.5)
    assert mesh.disagreements() == []


def one_way_cut(machine: type[Membership]) -> None:
    mesh = Mesh(11, machine=machine)
    start_all(mesh, ["a", "b", "c"])
    mesh.cut("b", "a")
    mesh.run_for(8.0)
    assert "b" not in mesh["a"].view()
    assert sorted(mesh["c"].view()) == NAMES[:3]
    mesh.heal()
    mesh.run_for(8.0)
    assert mesh.disagreements() == []


SCENARIOS: dict[str, Callable[[type[Membership]], None]] = {
    scenario.__name__: scenario
    for scenario in (
        killed_is_noticed_fast,
        closed_connections_kill_nobody,
        a_pause_of_our_own_kills_nobody,
        the_stopped_comes_back_as_itself,
        a_long_partition_heals,
        third_nodes_are_found,
        a_late_goodbye_of_the_last_incarnation_is_ignored,
        the_one_who_left_is_not_missed,
        the_moved_is_found,
        of_two_namesakes_the_younger_is_heeded,
        a_new_record_is_fetched,
        one_way_cut,
    )
}


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_scenario(name: str) -> None:
    SCENARIOS[name](Membership)


# -- each rule matters: without it, a scenario fails -------------------------------------------------------------------


class NoSelfDoubt(Membership):
    def __init__(self, record: NodeRecord, timings: MembershipTimings, random: Random) -> None:
        super().__init__(record, timings, random)

        class Confident(Pulse):
            def doubt_self(self, late: float) -> None:
                pass

        self._pulse = Confident(self._roster, timings, self._approach, self._exchange, random)


class NoRefutation(Membership):
    def _heard(self, member: Member, incarnation: int) -> None:
        hinted_at = member.hinted_at
        super()._heard(member, incarnation)
        member.hinted_at = hinted_at


class NoHints(Membership):
    def _on_disconnected(self, member: Member) -> None:
        pass


class NoRedial(Membership):
    def __init__(self, record: NodeRecord, timings: MembershipTimings, random: Random) -> None:
        super().__init__(record, timings, random)

        class Impatient(Approach):
            def schedule_redial(self, member: Member) -> None:
                pass

        self._approach = Impatient(self._roster, timings, random)
        self._pulse = Pulse(self._roster, timings, self._approach, self._exchange, random)


class NoExchange(Membership):
    def __init__(self, record: NodeRecord, timings: MembershipTimings, random: Random) -> None:
        super().__init__(record, timings, random)

        class Secretive(Exchange):
            def compare(self, member: Member, digest: int) -> None:
                pass

        self._exchange = Secretive(self._roster, timings)


class NoIncarnations(Membership):
    def _is_stale(self, member: Member, incarnation: int) -> bool:
        return False


class NoAnnouncedMove(Membership):
    def _announce_move(self) -> None:
        pass


class NoRecovery(Membership):
    def _heard(self, member: Member, incarnation: int) -> None:
        if member.is_live or member.record is None:
            super()._heard(member, incarnation)


class NoCoalescing(Membership):
    def update_record(self, now: float, record: NodeRecord) -> list:  # type: ignore[type-arg]  # an ablation
        effects = super().update_record(now, record)
        self._pulse.beat()
        return effects + self._roster.effects


ABLATIONS: list[tuple[type[Membership], str]] = [
    (NoSelfDoubt, "a_pause_of_our_own_kills_nobody"),
    (NoRefutation, "closed_connections_kill_nobody"),
    (NoHints, "killed_is_noticed_fast"),
    (NoRedial, "a_long_partition_heals"),
    (NoExchange, "third_nodes_are_found"),
    (NoIncarnations, "a_late_goodbye_of_the_last_incarnation_is_ignored"),
    (NoIncarnations, "of_two_namesakes_the_younger_is_heeded"),
    (NoAnnouncedMove, "the_moved_is_found"),
    (NoRecovery, "the_stopped_comes_back_as_itself"),
    (NoCoalescing, "a_new_record_is_fetched"),
]


@pytest.mark.parametrize(("machine", "scenario"), ABLATIONS, ids=lambda value: getattr(value, "__name__", value))
def test_each_rule_is_needed(machine: type[Membership], scenario: str) -> None:
    with pytest.raises(AssertionError):
        SCENARIOS[scenario](machine)


def test_the_judge_sees_a_false_death() -> None:
    class Impatient(Membership):
        def _heard(self, member: Member, incarnation: int) -> None:
            """Never impressed by a sign of life."""

    mesh = Mesh(1, machine=Impatient)
    with pytest.raises(AssertionError, match=r"declared . dead, which is healthy"):
        start_all(mesh, quiet_s=TIMINGS.dead_after_s + 1.0)
    assert mesh.now >= TIMINGS.dead_after_s
