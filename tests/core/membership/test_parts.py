"""Views, rings, statements, losses: each by itself. The sentences are those of docs/spec/06-membership.md."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from zmesh.core.membership.member import Contact

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.messages import Ask, Body, Heartbeat, Hello, Petition, Send
from zmesh.core.membership.neighbour import Watch
from zmesh.core.membership.restraint import Restraint
from zmesh.core.membership.settings import PRESETS, MembershipSettings, Pace
from zmesh.core.membership.statements import Accusation, Alive, Charge, Left, Removal, outlives, signed
from zmesh.core.membership.view import View, ViewStore
from zmesh.errors import ConfigurationError, InternalError
from zmesh.testing.subjects.membership_mesh import Seals, SimulatedNotary

SEALS = Seals()
SETTINGS = MembershipSettings(near_size=4)


def alive(name: str, incarnation: int = 1, life: int = 0, version: int = 1) -> Alive:
    contact = Contact(name, incarnation, (name,), 7650, "")
    return signed(Alive(contact, life, version, b"", b""), SimulatedNotary(SEALS, name))


def accusation(accuser: str, accused: Alive, charge: Charge = Charge.SILENT) -> Accusation:
    unsigned = Accusation(accuser, accused.node_id, accused.incarnation, accused.life, charge)
    return signed(unsigned, SimulatedNotary(SEALS, accuser))


def view_of(count: int, store: ViewStore | None = None) -> View:
    store = store or ViewStore(SETTINGS.near_size)
    return store.changed(None, [alive(f"n{number}") for number in range(count)], [])


def machine_in(view: View, store: ViewStore, name: str = "n0") -> Membership:
    machine = Membership(alive(name), SETTINGS, SimulatedNotary(SEALS, name), random.Random(1), store)
    machine.handle_timeout(0.0)
    machine.start_in(store.changed(view, [machine.own], []))
    return machine


# -- views -----------------------------------------------------------------------------------------------------------


def test_the_digest_depends_on_the_members_and_not_on_how_they_came() -> None:
    one_by_one = ViewStore(4)
    view = None
    for number in (3, 1, 2, 0, 4):
        view = one_by_one.changed(view, [alive(f"n{number}")], [])
    assert view is not None
    assert view.digest == view_of(5).digest
    without = one_by_one.changed(view, [], ["n3"])
    again = one_by_one.changed(without, [alive("n3")], [])
    assert again.digest == view.digest
    assert without.digest != view.digest


def test_another_life_is_another_view() -> None:
    store = ViewStore(4)
    view = view_of(5, store)
    changed = store.changed(view, [alive("n2", life=1)], [])
    assert changed.digest != view.digest
    assert len(changed) == 5
    assert changed.neighbours("n1") == view.neighbours("n1")


def test_rings_do_not_depend_on_the_order_of_changes() -> None:
    store = ViewStore(4)
    grown = store.changed(store.changed(view_of(30, store), [alive("late")], []), [], ["n7"])
    at_once = ViewStore(4).changed(None, list(grown.members.values()), [])
    assert all(grown.neighbours(name) == at_once.neighbours(name) for name in grown.members)
    assert grown.stewards() == at_once.stewards()


def test_observing_is_mutual_and_few_do_it() -> None:
    view = view_of(200)
    for name in view.members:
        neighbours = view.neighbours(name)
        assert 4 <= len(neighbours) <= 8
        assert name not in neighbours
        assert all(name in view.neighbours(other) for other in neighbours)


def test_in_a_near_view_everyone_observes_everyone() -> None:
    view = view_of(4)
    assert all(sorted(view.neighbours(name)) == sorted(view.members.keys() - {name}) for name in view.members)


def test_each_attempt_has_other_stewards_and_so_has_each_view() -> None:
    store = ViewStore(4)
    view = view_of(60, store)
    asked = [name for attempt in range(20) for name in view.stewards(attempt)]
    assert sorted(asked) == sorted(view.members)
    views = [store.changed(view, [alive("n0", life=life)], []) for life in range(1, 30)]
    assert len({v.stewards() for v in views}) > 15


# -- statements --------------------------------------------------------------------------------------------------------


def test_of_two_statements_the_greater_incarnation_life_and_version_counts() -> None:
    ordered = [alive("a", 1, 0, 9), alive("a", 1, 1, 1), alive("a", 1, 1, 2), alive("a", 2, 0, 1)]
    assert sorted(ordered, key=lambda a: a.order) == ordered


def test_a_removal_ends_a_life_and_a_goodbye_an_incarnation() -> None:
    removal, left = Removal("a", 5, 2, ()), Left("a", 5)
    assert not outlives(alive("a", 5, 2), removal)
    assert outlives(alive("a", 5, 3), removal)
    assert not outlives(alive("a", 5, 3), left)
    assert outlives(alive("a", 6, 0), left)


# -- what is believed --------------------------------------------------------------------------------------------------


def test_a_forged_statement_of_life_is_dropped() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(20, store), store)
    before = machine.view
    forged = replace(alive("n5", 9), signature=b"\x00" * 64)
    machine.receive(0.1, "n1", Body(before.digest, 77, (forged,)))
    assert machine.view is before
    machine.receive(0.2, "n1", Body(before.digest, 78, (alive("n5", 9),)))
    assert machine.view.members["n5"].incarnation == 9


@pytest.mark.parametrize("accusers", ["too few", "no observers", "forged", "of another life", "enough"])
def test_a_removal_needs_signed_accusations_of_three_observers(accusers: str) -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(40, store), store)
    view = machine.view
    accused = view.members[next(n for n in view.members if n != "n0" and "n0" not in view.neighbours(n))]
    observers = view.neighbours(accused.node_id)
    strangers = [n for n in view.members if n not in observers and n != accused.node_id]
    signers = {"too few": observers[:2], "no observers": strangers[:5]}.get(accusers, observers[:4])
    given = [accusation(signer, accused) for signer in signers]
    if accusers == "forged":
        given = [replace(a, signature=given[0].signature) for a in given]
    if accusers == "of another life":
        given = [accusation(signer, alive(accused.node_id, 1, 1)) for signer in signers]
    removal = Removal(accused.node_id, accused.incarnation, accused.life, tuple(given))
    machine.receive(0.1, "n1", Body(view.digest, 77, (), (removal,)))
    assert (accused.node_id not in machine.view.members) == (accusers == "enough")


def test_one_accuser_counts_once_however_often_it_says_so() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(40, store), store)
    view = machine.view
    accused = view.members[next(n for n in view.members if n != "n0" and "n0" not in view.neighbours(n))]
    observers = view.neighbours(accused.node_id)
    many = tuple(accusation(observers[0], accused) for _ in range(9))
    removal = Removal(accused.node_id, accused.incarnation, accused.life, many)
    machine.receive(0.1, "n1", Body(view.digest, 77, (), (removal,)))
    assert accused.node_id in machine.view.members


def test_a_goodbye_counts_only_from_the_node_itself() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(20, store), store)
    forged = signed(Left("n5", 1), SimulatedNotary(SEALS, "n6"))
    machine.receive(0.1, "n6", Body(machine.view.digest, 77, (), (forged,)))
    assert "n5" in machine.view.members
    real = signed(Left("n5", 1), SimulatedNotary(SEALS, "n5"))
    machine.receive(0.2, "n6", Body(machine.view.digest, 78, (), (real,)))
    assert "n5" not in machine.view.members


def test_a_hello_in_anothers_name_is_not_heeded() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(20, store), store)
    effects = machine.receive(0.1, "n6", Hello(alive("new"), 5, 0))
    assert not any(isinstance(e, Send) and isinstance(e.message, Petition) for e in effects)
    effects = machine.receive(0.2, "new", Hello(alive("new"), 5, 0))
    assert any(isinstance(e, Send) and isinstance(e.message, Petition) for e in effects)


@pytest.mark.parametrize("has_left", [False, True])
def test_a_later_start_is_taken_for_a_second_node_unless_the_first_said_goodbye(has_left: bool) -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(20, store), store)
    if has_left:
        machine.receive(0.1, "n5", Petition(0, (signed(Left("n5", 1), SimulatedNotary(SEALS, "n5")),)))
    effects = machine.receive(0.11, "n6", Petition(0, (alive("n5", 2),)))
    asked = [e.to.node_id for e in effects if isinstance(e, Send) and isinstance(e.message, Ask)]
    assert asked == ([] if has_left else ["n5"])


def test_a_heartbeat_that_says_nothing_new_has_no_effects() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(20, store), store)
    neighbour = machine.view.neighbours("n0")[0]
    assert list(machine.receive(0.1, neighbour, Heartbeat(1, 1, machine.view.digest))) == []
    assert machine.receive(0.2, neighbour, Heartbeat(1, 2, machine.view.digest)) == ()


def greetings(machine: Membership, hellos: int) -> int:
    """How many of a member's hellos, a millisecond apart and of another view, are answered with one."""
    hello = Hello(machine.view.members["n5"], 5, 20)
    told = [effect for i in range(hellos) for effect in machine.receive(0.1 + i / 1000, "n5", hello)]
    return sum(isinstance(effect, Send) and isinstance(effect.message, Hello) for effect in told)


def test_two_whose_views_differ_do_not_greet_each_other_without_end() -> None:
    store = ViewStore(SETTINGS.near_size)
    assert greetings(machine_in(view_of(20, store), store), 500) == 1
    unrestrained = machine_in(view_of(20, store), store)
    unrestrained._conversation.greeting = Restraint(0.0)
    assert greetings(unrestrained, 500) == 500


def test_who_asks_to_be_let_in_is_greeted_each_time() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(20, store), store)
    hello = Hello(machine.view.members["n5"], 5, 0)
    for now in (0.1, 0.2):
        told = machine.receive(now, "n5", hello)
        assert any(isinstance(effect, Send) and isinstance(effect.message, Hello) for effect in told)


def test_time_never_goes_back() -> None:
    machine = machine_in(view_of(5), ViewStore(SETTINGS.near_size))
    machine.handle_timeout(2.0)
    with pytest.raises(InternalError, match="time went back"):
        machine.handle_timeout(1.0)


def test_nothing_comes_out_after_a_goodbye() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(20, store), store)
    said = machine.leave(0.1)
    assert all(isinstance(e, Send) and isinstance(e.message, Petition) for e in said)
    assert said
    assert machine.next_deadline() is None
    assert list(machine.receive(0.2, "n1", Heartbeat(1, 1, 5, True))) == []


# -- losses ------------------------------------------------------------------------------------------------------------


def test_losses_are_counted_over_the_last_twenty_heartbeats() -> None:
    watch = Watch(alive("a"), 0.0)
    for number in range(1, 6):
        watch.count(number)
    assert watch.lost_share == 0.0
    for number in (10, 15, 20, 25):
        watch.count(number)
    assert watch.lost_share == pytest.approx(16 / 20)
    for number in range(26, 46):
        watch.count(number)
    assert watch.lost_share == 0.0


def test_a_pause_of_the_sender_is_no_loss_and_few_heartbeats_tell_nothing() -> None:
    watch = Watch(alive("a"), 0.0)
    watch.count(100)
    watch.count(105)
    assert watch.lost_share == 0.0
    watch.count(1000)
    assert watch.lost_share == 0.0


# -- settings ----------------------------------------------------------------------------------------------------------


def test_a_pace_must_leave_time_for_an_answer() -> None:
    with pytest.raises(ConfigurationError):
        Pace(1.0, 0.5, 2.0)
    with pytest.raises(ConfigurationError):
        Pace(1.0, 2.0, 2.0)


def test_presets_are_ordered_from_fast_to_patient() -> None:
    paces = [PRESETS[name].wide for name in ("local", "lan", "wan")]
    assert paces == sorted(paces, key=lambda pace: pace.accuse_after_s)
