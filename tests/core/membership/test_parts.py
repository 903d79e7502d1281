"""Views, rings, statements, losses: each by itself. The sentences are those of docs/spec/06-membership.md."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import Contact
from zmesh.core.membership.messages import (
    Ask,
    Body,
    Heartbeat,
    Hello,
    KnockOutcome,
    MembershipEffect,
    MembershipMessage,
    Notice,
    NotifyMember,
    Petition,
    Pull,
    Send,
)
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


def told(effects: Sequence[MembershipEffect]) -> list[tuple[str, str]]:
    return [(e.alive.node_id, e.kind.value) for e in effects if isinstance(e, NotifyMember)]


def test_whoever_was_suspected_is_cleared_when_others_are_to_watch_it() -> None:
    """Else it would be suspected here for ever: no word of it comes any more."""
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(4, store), store)
    assert sorted(told(stepped(machine, 1.5))) == [("n1", "suspected"), ("n2", "suspected"), ("n3", "suspected")]
    grown = Body(machine.view.digest, 77, tuple(alive(f"m{number}") for number in range(60)))
    effects = machine.receive(1.5, "n1", grown)
    watched = machine.view.neighbours("n0")
    unwatched = [name for name in ("n1", "n2", "n3") if name not in watched]
    assert "n2" in unwatched, "names chosen so that the test says something"
    cleared = [name for name, kind in told(effects) if kind == "recovered"]
    assert sorted(cleared) == sorted({"n1", *unwatched}), "n1 has spoken"


def test_whoever_was_suspected_is_cleared_when_it_states_that_it_lives() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(4, store), store)
    machine.disconnected(0.1, "n1")
    assert told(machine.knocked(0.1, "n1", KnockOutcome.REFUSED)) == []
    assert told(machine.handle_timeout(0.1)) == [("n1", "suspected")]
    effects = machine.receive(0.2, "n2", Body(machine.view.digest, 77, (alive("n1", life=1),)))
    assert told(effects) == [("n1", "recovered")]


def test_other_traffic_is_a_sign_of_life() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(4, store), store)
    for step in range(16):
        effects = machine.handle_timeout(step / 10)
        assert "n1" not in [name for name, _ in told(effects)]
        machine.heard(step / 10, ["n1", "a stranger"])
    assert sorted(machine.suspects()) == ["n2", "n3"]
    assert told(machine.heard(1.5, ["n2"])) == [("n2", "recovered")]


@pytest.mark.parametrize("outcome", [None, *KnockOutcome])
def test_what_is_read_after_a_connection_closed_counts_only_if_the_kernel_says_so(outcome: KnockOutcome | None) -> None:
    """The process may have been killed with its last frames on the way."""
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(4, store), store)
    machine.disconnected(0.1, "n1")
    if outcome is not None:
        machine.knocked(0.1, "n1", outcome)
    machine.heard(0.1, ["n1"])
    if outcome is None:
        machine.knocked(0.1, "n1", KnockOutcome.REFUSED)
    accused = accusations(machine.handle_timeout(0.1))
    assert accused == ({"n1"} if outcome in (None, KnockOutcome.REFUSED) else set())


def test_an_accusation_ends_with_the_duty_to_watch() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(4, store), store)
    machine.disconnected(0.1, "n2")
    machine.knocked(0.1, "n2", KnockOutcome.REFUSED)
    assert accusations(machine.handle_timeout(0.1)) == {"n2"}
    machine.receive(0.2, "n1", Body(machine.view.digest, 77, tuple(alive(f"m{number}") for number in range(60))))
    assert "n2" not in machine.view.neighbours("n0")
    assert "n2" not in accusations(stepped(machine, 30.0, 0.2))


def stepped(machine: Membership, end: float, start: float = 0.0) -> list[MembershipEffect]:
    """All effects of a time without messages, in which the machine is never called late."""
    times = [start + step / 10 for step in range(round((end - start) * 10) + 1)]
    return [effect for now in times for effect in machine.handle_timeout(now)]


def accusations(effects: Sequence[MembershipEffect]) -> set[str]:
    sent = [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Petition)]
    return {s.node_id for petition in sent for s in petition.statements if isinstance(s, Accusation)}


# -- a view that was there before: who came last has left again -------------------------------------------------------


LEFT = signed(Left("late", 1), SimulatedNotary(SEALS, "late"))


def joined_late(machine: Membership) -> tuple[int, int]:
    """Somebody comes; the digests before and after."""
    before = machine.view.digest
    machine.receive(0.1, "n1", Body(before, 77, (alive("late"),)))
    assert "late" in machine.view.members
    return before, machine.view.digest


def test_what_leads_back_to_an_earlier_view_is_taken_over() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(20, store), store)
    before, after = joined_late(machine)
    machine.receive(0.2, "n1", Body(after, before, (), (LEFT,)))
    assert machine.view.digest == before


def test_whoever_is_in_an_earlier_view_for_long_is_told_what_lies_between() -> None:
    """Each knows the digest of the other, so neither pulls."""
    store = ViewStore(SETTINGS.near_size)
    behind, ahead = (machine_in(view_of(20, store), store, name) for name in ("n0", "n1"))
    before, after = joined_late(behind)
    joined_late(ahead)
    ahead.receive(0.2, "n2", Body(after, before, (), (LEFT,)))
    assert sent(ahead.receive(0.3, "n0", Heartbeat(1, 1, after))) == [], "it may only be a little behind"
    for now in (1.0, 1.9):
        ahead.handle_timeout(now)
    (body,) = sent(ahead.receive(2.3, "n0", Heartbeat(1, 3, after)))
    behind.receive(2.3, "n1", body)
    assert behind.view.digest == before


def test_an_earlier_view_that_is_announced_after_so_long_is_pulled() -> None:
    store = ViewStore(SETTINGS.near_size)
    machine = machine_in(view_of(20, store), store)
    before, after = joined_late(machine)
    assert sent(machine.receive(0.2, "n1", Notice(before, 20))) == []
    for now in (1.0, 1.9):
        machine.handle_timeout(now)
    assert sent(machine.receive(2.2, "n1", Notice(before, 20))) == [Pull(after)]


def sent(effects: Sequence[MembershipEffect]) -> list[MembershipMessage]:
    return [e.message for e in effects if isinstance(e, Send)]


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


def test_what_a_node_said_of_itself_while_alone_is_in_the_views_that_follow() -> None:
    """Nobody heard it then, and the hello that tells of it may be lost: a seed of a storm over agents found it."""
    machine = Membership(alive("n0"), SETTINGS, SimulatedNotary(SEALS, "n0"), random.Random(1), record=b"one")
    machine.handle_timeout(0.0)
    machine.restate(0.0, record=b"two")
    machine.receive(0.0, "n1", Hello(alive("n1"), 0, 0))
    asked: list[object] = []
    while machine.own not in asked and machine.view.members["n0"] != machine.own:
        deadline = machine.next_deadline()
        assert deadline is not None
        assert deadline < 3.0, "it does not ask"
        effects = machine.handle_timeout(deadline)
        asked += [
            s for e in effects if isinstance(e, Send) and isinstance(e.message, Petition) for s in e.message.statements
        ]
    assert (len(machine.view), machine.own.version) == (2, 2)
