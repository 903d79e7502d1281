"""Single rules of the membership machine, one input at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.core.membership.mesh import TIMINGS
from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import Status, contact_of, digest_of
from zmesh.core.membership.messages import (
    Contact,
    Contacts,
    Forget,
    Goodbye,
    Heartbeat,
    Introduce,
    MembershipEffect,
    NodeRecord,
    Notify,
    RecordAnswer,
    RecordRequest,
    Report,
    SendControl,
)
from zmesh.core.membership.roster import MAX_MEMBERS
from zmesh.errors import InternalError
from zmesh.testing.subjects.membership import make_record

A = make_record("a", 100, "host-a")
B = make_record("b", 200, "host-b")
C = make_record("c", 300, "host-c")


def machine() -> Membership:
    made = Membership(A, TIMINGS, random.Random(1))
    made.handle_timeout(0.0)
    return made


def met(record: NodeRecord, host: str = "") -> Contact:
    return replace(contact_of(record), hosts=(host or record.hosts[0], *record.hosts))


def joined(*records: NodeRecord) -> Membership:
    made = machine()
    for record in records:
        made.introduced(0.0, met(record))
        made.receive(0.0, record.node_id, RecordAnswer(record))
    return made


def told(effects: list[MembershipEffect]) -> list[tuple[str, str]]:
    return [(e.event.kind.value, e.event.record.node_id) for e in effects if isinstance(e, Notify)]


def sent(effects: list[MembershipEffect]) -> list[object]:
    return [effect.message for effect in effects if isinstance(effect, SendControl)]


def dialled(effects: list[MembershipEffect]) -> list[Contact]:
    return [effect.contact for effect in effects if isinstance(effect, Introduce)]


def beat(record: NodeRecord, *, answer: bool = False, digest: int = 0) -> Heartbeat:
    return Heartbeat(record.incarnation, record.version, digest, answer)


# -- joining ---------------------------------------------------------------------------------------------------------


def test_a_stranger_is_heeded_only_when_it_names_itself() -> None:
    m = machine()
    assert m.receive(0.0, "b", beat(B)) == []
    assert m.receive(0.0, "b", RecordAnswer(B)) == []
    assert dialled(m.receive(0.0, "b", Contacts((contact_of(B),)))) == [contact_of(B)]


def test_a_node_joins_when_it_is_introduced_and_its_record_has_come_from_itself() -> None:
    m = machine()
    effects = m.introduced(0.0, met(B))
    assert [type(message) for message in sent(effects)] == [Heartbeat, RecordAnswer]
    assert told(effects) == []
    assert m.status_of("b") is Status.UNSEEN
    assert told(m.receive(0.1, "b", RecordAnswer(B))) == [("joined", "b")]
    assert m.status_of("b") is Status.ALIVE


def test_a_record_before_the_introduction_waits_for_it() -> None:
    m = machine()
    m.receive(0.0, "b", Contacts((contact_of(B),)))
    assert told(m.receive(0.0, "b", RecordAnswer(B))) == []
    assert told(m.introduced(0.1, met(B))) == [("joined", "b")]


def test_a_record_of_another_node_is_reported_once_and_dropped() -> None:
    m = joined(B)
    forged = make_record("c", 300, "host-c")
    effects = m.receive(1.0, "b", RecordAnswer(forged))
    assert [(e.kind, e.source) for e in effects if isinstance(e, Report)] == [("forged_record", "b")]
    assert m.receive(1.1, "b", RecordAnswer(forged)) == []
    assert m.status_of("c") is None


def test_a_node_that_reaches_us_and_cannot_be_reached_is_reported() -> None:
    m = machine()
    m.receive(0.0, "b", Contacts((contact_of(B),)))
    m.receive(0.0, "b", RecordAnswer(B))
    (report,) = [e for e in m.introduction_failed(4.0, "b") if isinstance(e, Report)]
    assert report.kind == "one_way"
    assert "firewall" in report.reason


def test_a_gossiped_restart_does_not_disturb_the_living() -> None:
    m = joined(B, C)
    lie = replace(contact_of(B), incarnation=1 << 60)
    assert dialled(m.receive(0.1, "c", Contacts((lie,)))) == [lie]
    m.introduction_failed(0.2, "b")
    assert m.receive(0.3, "b", beat(B, answer=True)) != []
    assert m.status_of("b") is Status.ALIVE
    restarted = replace(B, incarnation=201)
    assert dialled(m.receive(0.4, "b", Contacts((contact_of(restarted),)))) == [contact_of(restarted)]
    m.introduced(0.5, met(restarted))
    assert told(m.receive(0.6, "b", RecordAnswer(restarted))) == [("restarted", "b")]


# -- records ---------------------------------------------------------------------------------------------------------


def test_a_newer_version_is_fetched_once_per_heartbeat() -> None:
    m = joined(B)
    newer = replace(B, version=2)
    assert RecordRequest() in sent(m.receive(0.1, "b", beat(newer)))
    assert RecordRequest() not in sent(m.receive(0.2, "b", beat(newer)))
    assert RecordRequest() in sent(m.receive(0.4, "b", beat(newer)))
    assert told(m.receive(0.5, "b", RecordAnswer(newer))) == [("changed", "b")]
    assert told(m.receive(0.6, "b", RecordAnswer(B))) == []  # the old one, late
    assert RecordRequest() not in sent(m.receive(1.0, "b", beat(newer)))


def test_a_request_is_answered_with_the_record_in_force() -> None:
    m = joined(B)
    newer = replace(A, version=2)
    m.update_record(0.1, newer)
    assert sent(m.receive(0.2, "b", RecordRequest())) == [RecordAnswer(newer)]


def test_the_own_record_only_grows() -> None:
    m = machine()
    with pytest.raises(InternalError, match="version"):
        m.update_record(0.1, A)
    with pytest.raises(InternalError, match="incarnation"):
        m.update_record(0.1, replace(A, incarnation=101, version=2))


def test_contacts_are_sent_when_digests_differ_and_not_for_ever() -> None:
    m = joined(B, C)
    (contacts,) = [x for x in sent(m.receive(0.1, "b", beat(B, digest=1))) if isinstance(x, Contacts)]
    assert [contact.node_id for contact in contacts.contacts] == ["a", "c"]
    assert sent(m.receive(0.2, "b", beat(B, digest=1))) == []
    assert sent(m.receive(0.1 + TIMINGS.redial_interval_s, "b", beat(B, digest=1))) == [contacts]
    same = digest_of([C, A, B])
    assert sent(m.receive(9.0, "b", beat(B, digest=same))) == []


def test_the_digest_does_not_depend_on_the_order() -> None:
    assert digest_of([A, B, C]) == digest_of([C, A, B]) != digest_of([A, B])
    assert digest_of([A]) != digest_of([replace(A, incarnation=101)])


# -- life and death --------------------------------------------------------------------------------------------------


def run(m: Membership, until: float, since: float = 0.0) -> list[tuple[float, str]]:
    return [(when, kind) for when, effects in steps(m, until, since) for kind, _ in told(effects)]


def run_effects(m: Membership, until: float, since: float = 0.0) -> list[MembershipEffect]:
    return [effect for _, effects in steps(m, until, since) for effect in effects]


def steps(m: Membership, until: float, since: float) -> Iterator[tuple[float, list[MembershipEffect]]]:
    """Call the machine whenever it is due, as a driver does that got the last input at ``since``."""
    while (deadline := m.next_deadline()) is not None and deadline <= until:
        since = max(since, deadline)
        yield since, m.handle_timeout(since)


def test_silence_is_suspected_then_death() -> None:
    assert run(joined(B), 5.0) == [(TIMINGS.suspect_after_s, "suspected"), (TIMINGS.dead_after_s, "died")]


def test_a_closed_connection_shortens_the_wait_and_an_answer_ends_it() -> None:
    m = joined(B)
    asked = m.disconnected(0.1, "b")
    assert [x.answer for x in sent(asked) if isinstance(x, Heartbeat)] == [True]
    events = run(m, 2.0, since=0.1)
    assert [kind for _, kind in events] == ["suspected", "died"]
    assert events[1][0] == pytest.approx(0.1 + TIMINGS.hint_wait_s)
    m = joined(B)
    m.disconnected(0.1, "b")
    m.receive(0.2, "b", beat(B))
    assert run(m, 1.1, since=0.2) == []


def test_a_link_that_closed_is_introduced_anew() -> None:
    m = joined(B)
    m.disconnected(0.1, "b")
    m.receive(0.2, "b", beat(B))
    assert dialled(run_effects(m, 0.09 + TIMINGS.suspect_after_s, since=0.2)) == []
    assert dialled(run_effects(m, 0.11 + TIMINGS.suspect_after_s)) == [contact_of(B)]


def test_the_dead_are_recognised_by_their_incarnation() -> None:
    m = joined(B)
    run(m, 3.5)
    assert m.receive(4.0, "b", beat(replace(B, incarnation=199))) == []
    assert m.status_of("b") is Status.DEAD
    assert told(m.receive(4.1, "b", beat(B))) == [("recovered", "b")]


def test_the_dead_may_come_back_with_a_clock_set_back() -> None:
    m = joined(B)
    older = replace(B, incarnation=150)
    assert m.refuses(contact_of(older)) == "superseded"
    run(m, 3.5)
    assert m.refuses(contact_of(older)) == ""
    m.introduced(4.0, met(older))
    assert told(m.receive(4.1, "b", RecordAnswer(older))) == [("joined", "b")]


def test_the_dead_are_dialled_until_they_are_forgotten() -> None:
    m = joined(B)
    dials, forgotten_at = 0, 0.0
    while not forgotten_at:
        now = m.next_deadline()
        assert now is not None
        effects = m.handle_timeout(now)
        dials += len(dialled(effects))
        forgotten_at = now if Forget("b") in effects else 0.0
        if dialled(effects):
            m.introduction_failed(now, "b")
    assert 10 < dials < 40
    assert forgotten_at >= TIMINGS.dead_after_s + TIMINGS.forget_after_s
    assert m.status_of("b") is None


def test_a_goodbye_is_final_for_its_incarnation() -> None:
    m = joined(B)
    assert told(m.receive(0.1, "b", Goodbye(B.incarnation))) == [("left", "b")]
    assert told(m.receive(0.2, "b", beat(B))) == []
    assert dialled(m.receive(0.3, "b", Contacts((contact_of(B),)))) == []
    assert m.refuses(contact_of(B)) == "superseded"
    assert dialled(run_effects(m, 20.0, since=0.3)) == []
    again = replace(B, incarnation=201)
    assert dialled(m.receive(21.0, "b", Contacts((contact_of(again),)))) == [contact_of(again)]


def test_leaving_says_goodbye_and_ends_the_machine() -> None:
    m = joined(B, C)
    effects = m.leave(1.0)
    assert effects == [SendControl("b", Goodbye(A.incarnation)), SendControl("c", Goodbye(A.incarnation))]
    assert m.next_deadline() is None
    assert m.receive(2.0, "b", beat(B, answer=True)) == []
    assert m.handle_timeout(9.0) == []
    assert m.leave(9.0) == []


def test_a_pause_of_our_own_is_not_their_silence() -> None:
    m = joined(B)
    assert told(m.handle_timeout(100.0)) == []
    assert told(m.handle_timeout(100.1)) == []
    assert "died" not in [kind for _, kind in run(m, 101.5, since=100.1)]


# -- names -----------------------------------------------------------------------------------------------------------


def test_who_may_not_be_introduced() -> None:
    m = joined(B)
    assert m.refuses(contact_of(A)) == "self"
    assert m.refuses(replace(contact_of(A), incarnation=1)) == "duplicate_name"
    assert m.refuses(replace(contact_of(B), incarnation=1)) == "superseded"
    assert m.refuses(contact_of(C)) == ""


def test_an_older_namesake_is_told_of_once_and_counts_for_nothing() -> None:
    m = joined(B)
    older = replace(B, incarnation=150)
    m.receive(0.1, "b", beat(older))  # may be the rest of what a stopped process sent
    reports = []
    events = []
    for before, now in ((0.1, 0.5), (0.5, 0.9), (0.9, 1.1), (1.1, 1.2)):
        events += [kind for _, kind in run(m, now, since=before)]
        reports += [e.kind for e in m.receive(now, "b", beat(older)) if isinstance(e, Report)]
    assert events == ["suspected"]
    assert reports == ["duplicate_name"]


def test_a_namesake_of_our_own_is_told_of_once() -> None:
    m = joined(B)
    namesake = replace(contact_of(A), incarnation=101)
    reports = [e for _ in range(2) for e in m.receive(0.1, "b", Contacts((namesake,))) if isinstance(e, Report)]
    assert [report.kind for report in reports] == ["duplicate_name"]


def test_what_a_lying_member_can_make_us_remember_is_bounded() -> None:
    m = joined(B)
    invented = tuple(Contact(f"n{i}", 1, ("10.0.0.1",), 7650, "") for i in range(2 * MAX_MEMBERS))
    effects = m.receive(0.1, "b", Contacts(invented)) + m.handle_timeout(0.1)
    assert len(dialled(effects)) == MAX_MEMBERS - 1
    assert "too_many_members" in {e.kind for e in effects if isinstance(e, Report)}


def test_time_never_goes_back() -> None:
    m = machine()
    m.handle_timeout(1.0)
    with pytest.raises(InternalError, match="time went back"):
        m.handle_timeout(0.9)
