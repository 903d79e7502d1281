"""Faults from seeds, and scenarios; and each safety rule switched off, so that its scenario fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from zmesh.core.membership.member import MemberEventKind

from tests.core.membership.mesh import NEAR, WIDE, Mesh
from zmesh.core.membership.docket import Docket
from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.machine import Membership
from zmesh.core.membership.messages import KnockOutcome, Vouch
from zmesh.core.membership.presence import Presence
from zmesh.core.membership.settings import MembershipSettings
from zmesh.core.membership.statements import Gone, Removal
from zmesh.core.membership.watch import Watching
from zmesh.testing.conditions import EVERYONE, LAN, Rule, between
from zmesh.testing.scenario import draw_scenario
from zmesh.testing.subjects.membership import MembershipSubject, WideMembershipSubject
from zmesh.testing.subjects.membership_mesh import MembershipMesh
from zmesh.testing.trial import run_trial
from zmesh.testing.world import World


@pytest.mark.parametrize("seed", range(25))
def test_small_meshes_agree_after_faults_and_remove_nobody_healthy(seed: int) -> None:
    assert run_trial(draw_scenario(MembershipSubject.settings, seed), MembershipSubject).failure == ""


@pytest.mark.parametrize("seed", range(6))
def test_wide_meshes_agree_after_faults_and_remove_nobody_healthy(seed: int) -> None:
    assert run_trial(draw_scenario(WideMembershipSubject.settings, seed), WideMembershipSubject).failure == ""


def test_a_run_is_decided_by_its_seed() -> None:
    scenario = draw_scenario(WideMembershipSubject.settings, 8)
    digests = [run_trial(scenario, WideMembershipSubject).digest for _ in range(2)]
    assert digests[0] == digests[1]


# -- scenarios: each gets the machine and the settings, and says what went wrong ---------------------------------------


Scenario = Callable[[type[Membership], MembershipSettings], str]


def liars_evict_nobody(machine: type[Membership], settings: MembershipSettings) -> str:
    """Four nodes accuse everybody. Neither one of the accused nor its observers can reach the stewards to deny it."""
    mesh = Mesh(150, machine=machine, settings=settings)
    view = mesh.view
    stewards = view.stewards()
    near_stewards = {*stewards, *(name for steward in stewards for name in view.neighbours(steward))}
    liars = [name for name in mesh.names if name not in near_stewards][:4]
    victim = next(name for name in mesh.names if not {name, *view.neighbours(name)} & {*near_stewards, *liars})
    mesh.world.network.apply(Rule((victim, *view.neighbours(victim)), stewards, cut=True))
    for liar in liars:
        mesh.accuse(liar, view.members.values())
    mesh.world.run_for(6.0)
    return f"died: {mesh.died()}" if mesh.died() else ""


def few_deaf_observers_evict_nobody(machine: type[Membership], settings: MembershipSettings) -> str:
    """A node that most observers hear, but two observers and the stewards do not."""
    mesh = Mesh(40, machine=machine, settings=settings)
    view = mesh.view
    name = next(
        name
        for name in mesh.names
        if name not in view.stewards() and not set(view.stewards()) & set(view.neighbours(name))
    )
    deaf = view.neighbours(name)[:2]
    mesh.world.network.apply(Rule((name,), (*deaf, *view.stewards()), cut=True))
    mesh.world.run_for(20.0)
    return f"died: {mesh.died()}" if mesh.died() else ""


def the_steward_hears_whom_no_observer_hears(machine: type[Membership], settings: MembershipSettings) -> str:
    """None of its observers hears it, but the rest of the mesh does."""
    mesh = Mesh(60, machine=machine, settings=settings)
    view = mesh.view
    name = next(
        name
        for name in mesh.names
        if name not in view.stewards() and not set(view.stewards()) & set(view.neighbours(name))
    )
    mesh.world.network.apply(Rule((name,), view.neighbours(name), cut=True))
    mesh.world.run_for(5.0)
    return f"died: {mesh.died()}" if mesh.died() else ""


def removed_in_error_it_comes_back(machine: type[Membership], settings: MembershipSettings) -> str:
    """A machine that stood still for so long that it was removed, and goes on."""
    mesh = Mesh(20, machine=machine, settings=settings)
    mesh.freeze("n003", 6.0)
    mesh.world.run_for(5.0)
    if mesh.died() != ["n003"]:
        return f"died: {mesh.died()}"
    mesh.world.run_for(5.0)
    return "; ".join(mesh.complaints()[:2])


def ones_own_pause_is_nobodys_silence(machine: type[Membership], settings: MembershipSettings) -> str:
    """A process stops, and goes on: it suspects nobody."""
    mesh = Mesh(20, machine=machine, settings=settings)
    for name in mesh.names[:8]:
        mesh.world.hosts[name].pause_for(5.0)
        mesh.world.run_for(8.0)
    stopped = mesh.names[:8]
    suspicions = [(who, told.alive.node_id) for _, who, told in mesh.told if told.kind is MemberEventKind.SUSPECTED]
    wrong = [name for who, name in suspicions if who in stopped and name not in stopped]
    return f"suspected: {wrong}" if wrong else ""


def stopped_processes_are_not_dead(machine: type[Membership], settings: MembershipSettings) -> str:
    """Their kernels answer: five seconds are not enough to remove them."""
    mesh = Mesh(20, machine=machine, settings=settings)
    for name in mesh.names[:4]:
        mesh.world.hosts[name].pause_for(5.0)
        mesh.world.run_for(9.0)
    return f"died: {mesh.died()}" if mesh.died() else ""


def many_go_in_one_view(machine: type[Membership], settings: MembershipSettings) -> str:
    """Ten machines lose power within half a second."""
    mesh = Mesh(100, machine=machine, settings=settings)
    gone = [name for name in mesh.names if name not in mesh.view.stewards()][::9][:10]
    for number, name in enumerate(gone):
        mesh.world.after(0.05 * number, mesh.power_off, name)
    mesh.world.run_for(10.0)
    rest = [name for name in mesh.names if name not in gone]
    views = mesh.most_views(rest)
    if mesh.died() != gone or mesh.complaints():
        return f"died: {mesh.died()}, {mesh.complaints()[:1]}"
    return f"{views} views" if views > 2 else ""


def who_flaps_stays_out(machine: type[Membership], settings: MembershipSettings) -> str:
    """Cut off alone for 20 s, back for 20 s, and again; meanwhile the others change."""
    mesh = Mesh(30, machine=machine, settings=settings)
    rules = between(("n007",), tuple(name for name in mesh.names if name != "n007"))
    for _ in range(2):
        mesh.world.network.apply(*rules)
        mesh.world.run_for(10.0)
        mesh.world.hosts["n001"].call(mesh.node("n001").update)
        mesh.world.run_for(10.0)
        mesh.world.network.lift(*rules)
        mesh.world.run_for(20.0)
    rest = [name for name in mesh.names if name != "n007"]
    views = mesh.most_views(rest)
    return f"{views} views" if views > 3 else ""  # one removal, two records


def who_loses_most_is_removed(machine: type[Membership], settings: MembershipSettings) -> str:
    """Four of five messages from it are lost."""
    mesh = Mesh(30, machine=machine, settings=settings)
    mesh.world.network.apply(Rule(("n007",), EVERYONE, loss=0.8))
    mesh.world.run_for(30.0)
    return "" if mesh.died() == ["n007"] else f"died: {mesh.died()}"


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        liars_evict_nobody,
        few_deaf_observers_evict_nobody,
        the_steward_hears_whom_no_observer_hears,
        removed_in_error_it_comes_back,
        ones_own_pause_is_nobodys_silence,
        stopped_processes_are_not_dead,
        many_go_in_one_view,
        who_flaps_stays_out,
        who_loses_most_is_removed,
    )
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    assert SCENARIOS[name](Membership, WIDE) == ""


# -- ablations ---------------------------------------------------------------------------------------------------------


class _AnyoneAccuses(Ledger):
    def is_observer(self, accuser: str, node_id: str) -> bool:
        return True


class AnyoneAccuses(Membership):
    ledger_type = _AnyoneAccuses


class _DeafToTheAccused(Docket):
    def vouch(self, sender: str, vouch: Vouch) -> None:
        if sender != vouch.node_id:
            super().vouch(sender, vouch)


class DeafToTheAccused(Membership):
    docket_type = _DeafToTheAccused


class _NoRefutation(Presence):
    def removed(self, gone: Gone, informer: str) -> None:
        pass


class NoRefutation(Membership):
    presence_type = _NoRefutation


class _NoSelfDoubt(Watching):
    def forgive(self, late_s: float) -> None:
        pass


class NoSelfDoubt(Membership):
    watching_type = _NoSelfDoubt


class _NoKnock(Watching):
    def knocked(self, node_id: str, outcome: KnockOutcome) -> None:
        pass


class NoKnock(Membership):
    watching_type = _NoKnock


class _NoBatches(Docket):
    def _silent_due(self) -> float:
        ready = [t for t in self._tallies.values() if len(t.accusations) >= self._ledger.quorum(t.alive.node_id)]
        return self._ledger.now if ready else super()._silent_due()


class NoBatches(Membership):
    docket_type = _NoBatches


class _NoPenance(Presence):
    def _penance_s(self, gone: Removal) -> float:
        return 0.0


class NoPenance(Membership):
    presence_type = _NoPenance


class _NoLosses(Watching):
    def _review_losses(self) -> None:
        pass


class NoLosses(Membership):
    watching_type = _NoLosses


ALONE = replace(WIDE, quorum=1, agreement=0.0)


@pytest.mark.parametrize(
    ("name", "machine", "settings"),
    [
        ("liars_evict_nobody", AnyoneAccuses, WIDE),
        ("few_deaf_observers_evict_nobody", Membership, ALONE),
        ("the_steward_hears_whom_no_observer_hears", DeafToTheAccused, WIDE),
        ("removed_in_error_it_comes_back", NoRefutation, WIDE),
        ("ones_own_pause_is_nobodys_silence", NoSelfDoubt, WIDE),
        ("stopped_processes_are_not_dead", NoKnock, WIDE),
        ("many_go_in_one_view", NoBatches, WIDE),
        ("who_flaps_stays_out", NoPenance, WIDE),
        ("who_loses_most_is_removed", NoLosses, WIDE),
    ],
)
def test_each_rule_matters(name: str, machine: type[Membership], settings: MembershipSettings) -> None:
    assert SCENARIOS[name](machine, settings) != ""


# -- small meshes: as today --------------------------------------------------------------------------------------------


def test_a_kill_is_known_to_all_within_a_second() -> None:
    mesh = Mesh(30, settings=NEAR)
    for name in ("n004", "n011", "n025"):
        since = mesh.world.now
        mesh.world.hosts[name].kill()
        assert mesh.world.converge(mesh.complaints, 1.0, every_s=0.05) < 1.0
        assert mesh.world.now - since < 1.0
    assert mesh.died() == ["n004", "n011", "n025"]


def test_each_side_of_a_cut_goes_on_and_they_find_each_other_again() -> None:
    mesh = Mesh(5, settings=NEAR)
    rules = between(("n000", "n001"), ("n002", "n003", "n004"))
    mesh.world.network.apply(*rules)
    mesh.world.run_for(20.0)
    assert sorted(mesh.node("n000").machine.view.members) == ["n000", "n001"]
    assert sorted(mesh.node("n003").machine.view.members) == ["n002", "n003", "n004"]
    mesh.world.network.lift(*rules)
    mesh.world.converge(mesh.complaints, 8.0)


def test_a_goodbye_is_no_death() -> None:
    mesh = Mesh(12)
    host = mesh.world.hosts["n003"]
    host.call(mesh.node("n003").leave)
    host.kill()
    mesh.world.converge(mesh.complaints, 3.0)
    assert mesh.died() == []
    assert {told.kind.value for _, _, told in mesh.told if told.alive.node_id == "n003"} == {"left"}


def test_a_second_node_of_one_name_is_refused_and_both_are_told() -> None:
    mesh = Mesh(12)
    mesh.world.run_for(1.0)
    mesh.add("second", ("n000",), identity="n003").start()
    mesh.world.run_for(10.0)
    first = mesh.node("n003")
    assert {node.machine.view.members["n003"].incarnation for node in mesh.nodes() if node.host.name != "second"} == {
        first.incarnation
    }
    assert "duplicate_name" in {report.kind for _, report in mesh.reports}


def test_many_join_at_once_and_see_few_sizes() -> None:
    world = World(3, conditions=LAN)
    mesh = MembershipMesh(world, WIDE)
    mesh.start("n000")
    world.run_for(2.0)
    for number in range(1, 80):
        world.after(number * 0.01, mesh.start, f"n{number:03}", ("n000",))
    sizes: set[int] = set()
    for _ in range(400):
        world.run_for(0.02)
        sizes |= {len(node.machine.view) for node in mesh.nodes()} - {1}
    assert mesh.complaints() == []
    assert len(sizes) <= 8


def test_a_new_record_is_told_to_all() -> None:
    mesh = Mesh(20)
    mesh.world.hosts["n003"].call(mesh.node("n003").update, b"other")
    mesh.world.run_for(1.0)
    assert {node.machine.record_of("n003") for node in mesh.nodes()} == {b"other"}
    told = [who for _, who, told in mesh.told if told.kind is MemberEventKind.CHANGED and told.alive.node_id == "n003"]
    assert sorted(told) == [name for name in mesh.names if name != "n003"]


def test_a_node_that_moves_is_found_at_its_new_address() -> None:
    mesh = Mesh(20)
    host, node = mesh.world.hosts["n003"], mesh.node("n003")
    mesh.world.network.place(host, "elsewhere")
    host.call(node.move, "elsewhere")
    mesh.world.run_for(10.0)
    assert {node.machine.view.members["n003"].contact.hosts for node in mesh.nodes()} == {("elsewhere",)}
    assert mesh.died() == []
    assert mesh.complaints() == []


def test_a_restarted_node_takes_the_place_of_the_one_before() -> None:
    mesh = Mesh(20)
    mesh.world.hosts["n003"].power_off()
    mesh.world.run_for(0.3)
    mesh.add_seeds("n003", ("n000",))
    mesh.world.hosts["n003"].start()
    mesh.world.converge(mesh.complaints, 5.0)
    assert mesh.died() == []
    assert {told.kind.value for _, _, told in mesh.told if told.alive.node_id == "n003"} == {"restarted"}


def test_half_and_half_go_on_apart_and_agree_again() -> None:
    mesh = Mesh(100)
    half = tuple(mesh.names[::2])
    rules = between(half, tuple(name for name in mesh.names if name not in half))
    mesh.world.network.apply(*rules)
    mesh.world.run_for(60.0)
    assert {len(node.machine.view) for node in mesh.nodes()} == {50}
    mesh.world.network.lift(*rules)
    assert mesh.world.converge(mesh.complaints, 10.0) <= 5.0


def test_two_meshes_of_which_two_nodes_are_introduced_become_one() -> None:
    world = World(5, conditions=LAN)
    mesh = MembershipMesh(world, WIDE)
    for number in range(24):
        mesh.start(f"n{number:03}", (f"n{number % 2:03}",) if number > 1 else ())
    world.run_for(10.0)
    assert {len(node.machine.view) for node in mesh.nodes()} == {12}
    contact = mesh.node("n001").machine.own.contact
    world.hosts["n004"].call(lambda now: mesh.node("n004").perform_all(mesh.node("n004").machine.meet(now, contact)))
    assert world.converge(mesh.complaints, 10.0) <= 5.0
    assert all(len(node.records) == 23 for node in mesh.nodes())
