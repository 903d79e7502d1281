"""The dialling machine: all addresses at once, the expected node wins, seeds again and again, and never too many."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from zmesh.core.membership.member import Contact

from zmesh.core.introduction.dialler import DIAL_TIMEOUT_S, MAX_DIALS, Dialler
from zmesh.core.introduction.messages import (
    CloseDial,
    DialEffect,
    DialFailed,
    DialSucceeded,
    OpenDial,
    SeedUnanswered,
)
from zmesh.errors import InternalError

B = Contact("b", 5, ("10.0.0.1", "10.0.0.2", "fd00::1"), 7650, "m")


def dialler() -> Dialler:
    return Dialler(2.0, 30.0, random.Random(1))


def opened(effects: list[DialEffect]) -> dict[str, int]:
    return {effect.host: effect.dial for effect in effects if isinstance(effect, OpenDial)}


def test_all_addresses_are_dialled_at_once_and_the_first_answer_closes_the_rest() -> None:
    machine = dialler()
    dials = opened(machine.dial_node(0.0, B, B.hosts))
    assert list(dials) == list(B.hosts)
    effects = machine.answered(0.1, dials["10.0.0.2"], B, "10.0.0.2")
    assert effects == [*map(CloseDial, dials.values()), DialSucceeded(B, "10.0.0.2", 7650)]
    assert machine.answered(0.2, dials["10.0.0.1"], B, "10.0.0.1") == []
    assert machine.next_deadline() is None


def test_another_node_at_the_address_is_not_taken_for_it() -> None:
    machine = dialler()
    dials = opened(machine.dial_node(0.0, B, ("10.0.0.1", "10.0.0.2")))
    stranger = Contact("c", 1, (), 7650, "")
    assert machine.answered(0.1, dials["10.0.0.1"], stranger, "10.0.0.1") == [CloseDial(dials["10.0.0.1"])]
    effects = machine.answered(0.2, dials["10.0.0.2"], stranger, "10.0.0.2")
    assert effects == [CloseDial(dials["10.0.0.2"]), DialFailed("b", "c answered instead")]


def test_a_node_that_does_not_answer_is_given_up_once() -> None:
    machine = dialler()
    dials = opened(machine.dial_node(0.0, B, B.hosts))
    machine.explain(dials["10.0.0.1"], "not ours")
    assert machine.next_deadline() == DIAL_TIMEOUT_S
    assert machine.handle_timeout(DIAL_TIMEOUT_S - 0.1) == []
    effects = machine.handle_timeout(DIAL_TIMEOUT_S)
    assert effects == [*map(CloseDial, dials.values()), DialFailed("b", "not ours")]
    assert machine.next_deadline() is None


def test_a_new_contact_of_the_same_node_replaces_the_dial() -> None:
    machine = dialler()
    old = opened(machine.dial_node(0.0, B, ("10.0.0.1",)))
    effects = machine.dial_node(0.1, B, ("10.0.0.9",))
    assert effects[0] == CloseDial(old["10.0.0.1"])
    assert list(opened(effects)) == ["10.0.0.9"]
    assert not machine.is_open(old["10.0.0.1"])


def test_a_host_named_twice_is_dialled_once() -> None:
    assert len(opened(dialler().dial_node(0.0, B, ("127.0.0.1", "10.0.0.1", "127.0.0.1")))) == 2


def test_a_seed_takes_whoever_answers_and_rests_until_that_node_is_lost() -> None:
    machine = dialler()
    dial = opened(machine.dial_address(0.0, "seed", 7650, persistent=True))["seed"]
    assert machine.answered(0.1, dial, B, "10.0.0.3") == [CloseDial(dial), DialSucceeded(B, "10.0.0.3", 7650)]
    assert machine.next_deadline() is None
    assert machine.dial_address(1.0, "seed", 7650, persistent=True) == []
    machine.lost(2.0, "somebody else")
    assert machine.next_deadline() is None
    machine.lost(3.0, "b")
    deadline = machine.next_deadline()
    assert deadline is not None
    assert 4.5 <= deadline <= 5.0
    assert opened(machine.handle_timeout(deadline))


def test_a_persistent_seed_backs_off_and_a_passing_one_is_forgotten() -> None:
    machine = dialler()
    machine.dial_address(0.0, "seed", 7650, persistent=True)
    now, gaps = 0.0, []
    for _ in range(8):
        deadline = machine.next_deadline()
        assert deadline is not None
        effects = machine.handle_timeout(deadline)
        assert SeedUnanswered("seed", 7650, "no answer") in effects
        retry = machine.next_deadline()
        assert retry is not None
        gaps.append(retry - deadline)
        assert list(opened(machine.handle_timeout(retry))) == ["seed"]
        now = retry
    assert gaps[0] <= 2.0
    assert all(earlier < later for earlier, later in pairwise(gaps[:4]))
    assert max(gaps) <= 30.0
    machine = dialler()
    machine.dial_address(now, "passing", 7650, persistent=False)
    assert SeedUnanswered("passing", 7650, "no answer") not in machine.handle_timeout(now + DIAL_TIMEOUT_S)
    assert machine.next_deadline() is None


def test_dialling_oneself_ends_for_good() -> None:
    machine = dialler()
    dial = opened(machine.dial_address(0.0, "me", 7650, persistent=True))["me"]
    assert machine.rejected(0.1, dial, "self", "") == [CloseDial(dial)]
    assert machine.next_deadline() is None


def test_a_refused_seed_is_tried_again() -> None:
    machine = dialler()
    dial = opened(machine.dial_address(0.0, "seed", 7650, persistent=True))["seed"]
    effects = machine.rejected(0.1, dial, "other_mesh", "it is of another mesh")
    assert effects == [CloseDial(dial), SeedUnanswered("seed", 7650, "it is of another mesh")]
    assert machine.next_deadline() is not None


def test_a_flood_of_addresses_waits_its_turn() -> None:
    machine = dialler()
    effects: list[DialEffect] = []
    for number in range(200):
        contact = Contact(f"n{number}", 1, ("10.0.0.1", "10.0.0.2"), 7650, "")
        effects += machine.dial_node(0.0, contact, contact.hosts)
    assert len(opened_all(effects)) == MAX_DIALS
    finished = 0
    now = 0.0
    while (deadline := machine.next_deadline()) is not None:
        now = deadline
        later = machine.handle_timeout(now)
        finished += sum(isinstance(effect, DialFailed) for effect in later)
    assert finished == 200
    assert now == pytest.approx(DIAL_TIMEOUT_S * 7)


def opened_all(effects: list[DialEffect]) -> list[OpenDial]:
    return [effect for effect in effects if isinstance(effect, OpenDial)]


def test_time_never_goes_back() -> None:
    machine = dialler()
    machine.handle_timeout(5.0)
    with pytest.raises(InternalError, match="time went back"):
        machine.handle_timeout(4.0)
