"""What lets crowds start on slow machines: late nodes, strangers, newcomers. Rules of docs/spec/06-membership.md.

Each rule has its ablation beside it: the same check, with the rule switched off, must fail.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.core.membership.test_parts import (
    SEALS,
    SETTINGS,
    accusation,
    accusations,
    alive,
    machine_in,
    sent,
    view_of,
)
from tests.core.membership.test_records import NEW, Pair
from tests.core.membership.test_records import alive as stating
from zmesh.core.membership.conversation import Conversation
from zmesh.core.membership.docket import Docket
from zmesh.core.membership.machine import Membership
from zmesh.core.membership.messages import (
    Ask,
    Body,
    Fetch,
    Heartbeat,
    Hello,
    MembershipEffect,
    MembershipMessage,
    Petition,
    Pull,
    Records,
    Send,
)
from zmesh.core.membership.petitions import Petitions
from zmesh.core.membership.records import RecordStore, _Want, record_hash_of
from zmesh.core.membership.statements import Alive, Left, signed
from zmesh.core.membership.view import ViewStore
from zmesh.testing.subjects.membership_mesh import SimulatedNotary

FOREVER = float("inf")
LATE_AT = 5.0  # when a machine that was called at 0 is called again


def late_machine(kind: type[Membership] = Membership, members: int = 20) -> Membership:
    """A machine n0 in a view that was called at 0 for the last time."""
    store = ViewStore(SETTINGS.near_size)
    machine = kind(alive("n0"), SETTINGS, SimulatedNotary(SEALS, "n0"), random.Random(1), store)
    machine.handle_timeout(0.0)
    machine.start_in(store.changed(view_of(members, store), [machine.own], []))
    return machine


def targets(effects: Sequence[MembershipEffect], kind: type[MembershipMessage]) -> list[str]:
    """To whom messages of that kind go."""
    return [e.to.node_id for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


def run(machine: Membership, start: float, end: float) -> list[tuple[float, MembershipEffect]]:
    """All effects of a time in which the machine is called as often as it asks for, and hears nothing."""
    effects, now = list[tuple[float, MembershipEffect]](), start
    while (due := machine.next_deadline()) is not None and due <= end:
        now = max(now, due)
        effects += [(now, effect) for effect in machine.handle_timeout(now)]
    return effects


# -- a delay of one's own (section 4, rule 4) --------------------------------------------------------------------------


class ForgivesWithEachMessage(Membership):
    """The ablation: it does not remember that it has forgiven the delay."""

    def _begin(self, now: float) -> None:
        self._forgiven_at = -FOREVER
        super()._begin(now)


def first_accused_at(machine: Membership, messages: int) -> float:
    """When a late machine, handed so many messages of one neighbour at first, accuses somebody."""
    sender = machine.view.neighbours("n0")[0]
    for number in range(messages):
        machine.receive(LATE_AT + number / 1000, sender, Petition(0, ()))
    said = run(machine, LATE_AT + messages / 1000, 60.0)
    return next(at for at, effect in said if accusations([effect]))


def test_a_delay_is_forgiven_once_and_not_with_each_message_that_was_waiting() -> None:
    """Else whoever wakes up to a full queue trusts everybody, and doubts itself, for as long as the queue is."""
    assert first_accused_at(late_machine(), 10) == first_accused_at(late_machine(), 1)
    ablated = [first_accused_at(late_machine(ForgivesWithEachMessage), messages) for messages in (1, 10)]
    assert ablated[1] > ablated[0] + 1.0


def has_removed_after_delay(kind: type[Membership], heard_at: float) -> bool:
    """Whether a steward that does not run from 0 till 5 removes one whose accusers it hears then."""
    machine = late_machine(kind, members=40)
    view = machine.view
    name = next(n for n in view.members if n != "n0" and "n0" not in view.neighbours(n))
    for number, observer in enumerate(view.neighbours(name)):
        accused = Petition(0, (accusation(observer, view.members[name]),))
        machine.receive(heard_at + number / 1000, observer, accused)
    machine.receive(max(heard_at, LATE_AT) + 0.1, "n1", Petition(0, ()))
    run(machine, LATE_AT + 0.1, LATE_AT + 1.0)
    return name not in machine.view.members


def test_accusations_that_were_waiting_are_heard_all() -> None:
    assert has_removed_after_delay(Membership, LATE_AT)
    assert not has_removed_after_delay(ForgivesWithEachMessage, LATE_AT), "each message voids those before"


class _KeepsAll(Docket):
    def restart(self) -> None:
        pass


class KeepsAll(Membership):
    """The ablation: what it has heard of others' silence before the delay still counts."""

    docket_type = _KeepsAll


def test_accusations_from_before_a_delay_are_forgotten() -> None:
    """The answers to what was asked may have come and gone meanwhile, or wait in the queue."""
    assert not has_removed_after_delay(Membership, 0.01)
    assert has_removed_after_delay(KeepsAll, 0.01)


class _ForgetsAll(Docket):
    def restart(self) -> None:
        self._alive.clear()
        self._left.clear()
        super().restart()


class ForgetsAll(Membership):
    """The ablation: a delay voids joins and goodbyes too, as it did once."""

    docket_type = _ForgetsAll


def after_delay(kind: type[Membership], statement: Alive | Left) -> Membership:
    """A steward that got this before it fell asleep, some time after it woke up."""
    machine = late_machine(kind)
    machine.receive(0.01, "n1", Petition(0, (statement,)))
    run(machine, LATE_AT, LATE_AT + 1.0)
    return machine


def test_a_late_steward_keeps_joins_and_goodbyes() -> None:
    """One that is always late would else never let anybody in."""
    left = signed(Left("n5", 1), SimulatedNotary(SEALS, "n5"))
    assert "new" in after_delay(Membership, alive("new")).view.members
    assert "n5" not in after_delay(Membership, left).view.members
    assert "new" not in after_delay(ForgetsAll, alive("new")).view.members
    assert "n5" in after_delay(ForgetsAll, left).view.members


class _KeepsRivals(Docket):
    def restart(self) -> None:
        self._rivals.clear()
        super().restart()


class KeepsRivals(Membership):
    """The ablation: a later start whose predecessor was asked before the delay counts as a join like others."""

    docket_type = _KeepsRivals


def test_a_late_steward_asks_again_whether_a_name_is_taken() -> None:
    """The running node of that name may have answered while nobody listened: two would have one name."""
    later = alive("n5", 2)
    machine = after_delay(Membership, later)
    assert machine.view.members["n5"].incarnation == 1
    assert targets(machine.receive(LATE_AT + 1.0, "n1", Petition(0, (later,))), Ask) == ["n5"]
    assert after_delay(KeepsRivals, later).view.members["n5"].incarnation == 2


# -- heartbeats of strangers (section 3, rule 2) -----------------------------------------------------------------------


def in_view_of_two() -> tuple[Membership, Membership]:
    """A machine n0 that knows n1 alone, and n7 of a mesh of 20, which has them both and has greeted it in vain."""
    newcomer = late_machine(members=2)
    store = ViewStore(SETTINGS.near_size)
    other = machine_in(view_of(20, store), store, "n7")
    hello = Hello(other.own, other.view.digest, 20)
    assert targets(newcomer.receive(0.1, "n7", hello), Pull) == ["n7"], "the answer is lost"
    return newcomer, other


def beat_of(machine: Membership, number: int = 1) -> Heartbeat:
    return Heartbeat(machine.own.incarnation, number, machine.view.digest)


def test_a_strangers_heartbeat_leads_out_of_a_view_of_two() -> None:
    newcomer, other = in_view_of_two()
    for pull in sent(newcomer.receive(1.5, "n7", beat_of(other))):
        for body in sent(other.receive(1.5, "n0", pull)):
            newcomer.receive(1.5, "n7", body)
    assert newcomer.view.digest == other.view.digest


def test_a_view_of_two_lasts_where_strangers_are_not_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ablation: who is no member is told of its end, if it has one, and not asked for its view."""

    def heed_members_alone(self: Conversation, sender: str, message: Heartbeat) -> None:
        if sender in self._ledger.view.members:
            self._on_heartbeat(sender, message)

    monkeypatch.setitem(Conversation._HANDLERS, Heartbeat, heed_members_alone)
    newcomer, other = in_view_of_two()
    assert sent(newcomer.receive(1.5, "n7", beat_of(other))) == []


def test_the_view_of_one_that_was_only_introduced_is_pulled_too() -> None:
    """Whoever ZAP lets in was introduced, or was a member: so it is known where each stranger is.

    Seen to fail where ``Presence.meet`` does not remember the contact.
    """
    newcomer = late_machine(members=2)
    newcomer.meet(0.1, alive("n7").contact)
    assert targets(newcomer.receive(0.2, "n7", Heartbeat(1, 1, 77)), Pull) == ["n7"]


def test_whoever_cannot_be_asked_does_not_keep_others_from_being_asked() -> None:
    """A pull that goes nowhere would make the node wait for its answer. Seen to fail without the look-up."""
    newcomer = late_machine(members=2)
    assert sent(newcomer.receive(0.1, "a stranger", Heartbeat(1, 1, 77))) == []
    assert targets(newcomer.receive(0.11, "n1", Heartbeat(1, 1, 77)), Pull) == ["n1"]


# -- who petitioned for a newcomer (section 3, rule 2) -----------------------------------------------------------------


class LetIn:
    """A newcomer, and n0 of a view of 20 that has asked for it and does not watch it."""

    def __init__(self) -> None:
        self.newcomer = Membership(alive("joiner"), SETTINGS, SimulatedNotary(SEALS, "joiner"), random.Random(1))
        self.newcomer.handle_timeout(0.0)
        self.member = late_machine()
        self.asked = self.member.receive(0.1, "joiner", Hello(self.newcomer.own, 0, 0))
        self.told = self.member.receive(0.2, "n1", Body(self.member.view.digest, 77, (self.newcomer.own,)))
        assert {"joiner", "n0"} <= self.member.view.members.keys()
        assert "joiner" not in self.member.view.neighbours("n0"), "else it would be told anyway: another name, please"


def test_who_petitioned_for_a_newcomer_brings_it_into_the_view() -> None:
    let_in = LetIn()
    assert set(targets(let_in.asked, Petition)) == set(late_machine().view.stewards()) - {"n0"}
    (hello,) = [e.message for e in let_in.told if isinstance(e, Send) and e.to.node_id == "joiner"]
    for pull in sent(let_in.newcomer.receive(0.2, "n0", hello)):
        for body in sent(let_in.member.receive(0.2, "joiner", pull)):
            let_in.newcomer.receive(0.2, "n0", body)
    assert let_in.newcomer.view.digest == let_in.member.view.digest


def test_a_newcomer_is_told_nothing_where_who_petitioned_keeps_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ablation. Its neighbours are strangers to it, whose hellos the runtime does not send at first."""
    monkeypatch.setattr(Petitions, "_welcome", lambda self, node_id: None)
    assert "joiner" not in targets(LetIn().told, Hello)


# -- whom to ask for a record (section 7, rules 2 and 4) ---------------------------------------------------------------


class _WaitsForAnybody(RecordStore):
    @staticmethod
    def _may_wait(sender: str, want: _Want) -> bool:
        return True


class WaitsForAnybody(Membership):
    """The ablation: whoever asks for what is wanted here waits for it, though it may wait for that one."""

    records_type = _WaitsForAnybody


def told_each_other(kind: type[Membership]) -> list[MembershipMessage]:
    """What n0 answers to n1, whom it has asked for the record that n1 asks it for: each heard of it from the other."""
    pair = Pair(machine=kind)
    asked = pair.tell(stating("n2", NEW, 2))
    assert targets(asked, Fetch) == ["n1"]
    return sent(pair.take("n1", Fetch((("n2", record_hash_of(NEW)),))))


def test_two_do_not_wait_for_each_others_record() -> None:
    assert told_each_other(Membership) == [Records((("n2", b""),))]
    assert told_each_other(WaitsForAnybody) == [], "and n1 waits till its patience ends, as n0 does"


class _AsksTheOwnerNext(RecordStore):
    def _whom_to_ask(self, node_id: str, want: _Want) -> str:
        return node_id if want.attempt == 1 else super()._whom_to_ask(node_id, want)


class AsksTheOwnerNext(Membership):
    """The ablation: in a wide view, too, the node itself comes after who told of it."""

    records_type = _AsksTheOwnerNext


def asked_in_turn(kind: type[Membership], others: int) -> list[str]:
    """Whom n0 asks for the record of a node that it does not watch, while all say that they have not got it."""
    pair = Pair(others, machine=kind)
    view = pair.machine.view
    owner = next(n for n in view.members if n not in ("n0", "n1") and (view.is_near or n not in view.neighbours("n0")))
    asked = targets(pair.tell(stating(owner, NEW, 2)), Fetch)
    for _ in range(2):
        asked += targets(pair.take(asked[-1], Records(((owner, b""),))), Fetch)
    return ["owner" if name == owner else "neighbour" if name in view.neighbours("n0") else name for name in asked[1:]]


def test_a_wide_view_asks_a_neighbour_before_the_owner() -> None:
    """Whose record has changed would else get a connection from everybody who was told by one that has it not yet."""
    assert asked_in_turn(Membership, 60) == ["neighbour", "neighbour"]
    assert asked_in_turn(AsksTheOwnerNext, 60)[0] == "owner"
    assert asked_in_turn(Membership, 5)[0] == "owner", "in a near view the node itself has it for certain"
