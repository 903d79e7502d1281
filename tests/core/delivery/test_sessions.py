"""docs/spec/03-data-plane.md, section 3: which session a frame belongs to, and that two sides always find together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.core.delivery import Belonging, belonging_of


def test_a_first_frame_is_taken() -> None:
    assert belonging_of(own=5, remote=0, sender=9, receiver=0) is Belonging.FIRST
    assert belonging_of(own=5, remote=0, sender=9, receiver=5) is Belonging.FIRST


def test_a_known_session_goes_on_whatever_the_peer_knows_of_ours() -> None:
    assert belonging_of(own=5, remote=9, sender=9, receiver=5) is Belonging.CURRENT
    assert belonging_of(own=5, remote=9, sender=9, receiver=4) is Belonging.CURRENT
    assert belonging_of(own=5, remote=9, sender=9, receiver=0) is Belonging.CURRENT


def test_a_peer_may_begin_anew() -> None:
    assert belonging_of(own=5, remote=9, sender=10, receiver=5) is Belonging.FIRST


def test_a_new_process_that_knows_nothing_of_ours_is_met_with_a_new_session() -> None:
    assert belonging_of(own=5, remote=9, sender=10, receiver=0) is Belonging.NEWBORN
    assert belonging_of(own=5, remote=9, sender=10, receiver=0, is_over=True) is Belonging.FIRST
    assert belonging_of(own=5, remote=9, sender=9, receiver=0, is_over=True) is Belonging.CURRENT


def test_a_session_that_is_over_is_dropped() -> None:
    assert belonging_of(own=5, remote=9, sender=8, receiver=5) is Belonging.STALE


def test_a_session_with_our_predecessor_is_told_to_begin_anew() -> None:
    assert belonging_of(own=6, remote=0, sender=9, receiver=5) is Belonging.FORGOTTEN


@dataclass
class Side:
    """A node's end of both sessions with one peer, reduced to numbers; and what it has sent that has not arrived."""

    own: int
    remote: int = 0
    is_over: bool = False  # what the session ``remote`` was of
    sent: int = 0  # records of the own session
    acked: int = 0
    received: int = 0  # records of the remote session
    outgoing: list[tuple[str, int, int, int, int]] = field(default_factory=list)
    delivered: list[tuple[int, int]] = field(default_factory=list)  # (session, record), over all processes
    answers: set[int] = field(default_factory=set)  # the own session's records that answer one of ``remote``
    lost_answers: int = 0

    def begin_anew(self) -> None:
        self.lost_answers += len([number for number in self.answers if number > self.acked])
        self.answers.clear()
        self.own, self.sent, self.acked = self.own + 1, 0, 0

    def restart(self) -> None:
        self.outgoing.clear()
        self.answers.clear()
        self.begin_anew()
        self.own += 100
        self.remote, self.received, self.is_over = 0, 0, False

    def answer(self) -> None:
        if self.received:
            self.answers.add(self.sent + 1)
            self.send()

    def send(self) -> None:
        self.sent += 1
        self.resend()

    def resend(self) -> None:
        for number in range(self.acked + 1, self.sent + 1):
            self.outgoing.append(("record", self.own, self.spoken_of, number, self.received))

    def say(self) -> None:
        self.outgoing.append(("bare", self.own, self.spoken_of, 0, self.received))

    @property
    def spoken_of(self) -> int:
        return 0 if self.is_over else self.remote

    def receive(self, kind: str, sender: int, receiver: int, number: int, ack: int) -> None:
        if kind == "reset":
            if receiver == self.own:
                self._refused_by(sender)
            return
        belonging = belonging_of(self.own, self.remote, sender, receiver, is_over=self.is_over)
        if belonging is Belonging.STALE:
            return
        if belonging is Belonging.FORGOTTEN:
            self.outgoing.append(("reset", self.own, sender, 0, 0))
            return
        if belonging is not Belonging.CURRENT:
            self._adopt(sender, belonging)
        if receiver == self.own:
            if kind == "rewind" and ack == 0 and self.acked > 0:
                self.begin_anew()
            elif kind != "rewind" or ack >= self.acked:
                self.acked = max(self.acked, min(ack, self.sent))
                if kind == "rewind":
                    self.resend()
        self._take(kind, number)

    def _refused_by(self, sender: int) -> None:
        if self.remote < sender:
            self.is_over = True
            self.answers.clear()  # whoever asked is no more
        self.begin_anew()

    def _adopt(self, sender: int, belonging: Belonging) -> None:
        self.answers.clear()
        if belonging is Belonging.NEWBORN:
            self.begin_anew()
        self.remote, self.received, self.is_over = sender, 0, False

    def _take(self, kind: str, number: int) -> None:
        if kind == "record" and number == self.received + 1:
            self.received = number
            self.delivered.append((self.remote, number))
        elif kind == "record" and number > self.received + 1:
            self.outgoing.append(("rewind", self.own, self.spoken_of, 0, self.received))


STEPS = st.lists(
    st.tuples(st.sampled_from(["anew", "restart", "send", "answer", "say", "deliver", "lose"]), st.integers(0, 1)),
    max_size=40,
)


def run(steps: list[tuple[str, int]], restarts: bool) -> tuple[Side, Side]:
    sides = Side(1000), Side(2000)
    for what, number in steps:
        if what == "deliver":
            deliver(sides, number)
        elif what != "restart" or restarts:
            ACTIONS[what](sides[number])
    for _ in range(8):
        for number in (0, 1):
            sides[number].send()
            sides[number].say()
            while sides[0].outgoing or sides[1].outgoing:
                deliver(sides, 0)
                deliver(sides, 1)
    return sides


def deliver(sides: tuple[Side, Side], number: int) -> None:
    if sides[number].outgoing:
        sides[1 - number].receive(*sides[number].outgoing.pop(0))


ACTIONS: dict[str, Callable[[Side], None]] = {
    "anew": lambda side: side.begin_anew(),
    "restart": lambda side: side.restart(),
    "send": lambda side: side.send(),
    "say": lambda side: side.say(),
    "answer": lambda side: side.answer(),
    "lose": lambda side: side.outgoing.clear(),  # the connection broke
}


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_both_sides_find_together_whatever_happened(steps: list[tuple[str, int]]) -> None:
    a, b = run(steps, restarts=True)
    assert (a.remote, b.remote) == (b.own, a.own)
    assert (a.received, b.received) == (b.sent, a.sent), "everything sent since must have come"


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_nothing_is_delivered_twice_between_living_nodes(steps: list[tuple[str, int]]) -> None:
    for side in run(steps, restarts=False):
        assert len(side.delivered) == len(set(side.delivered))


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_no_answer_to_a_new_process_is_lost_with_a_session_of_its_predecessor(steps: list[tuple[str, int]]) -> None:
    for side in run([step for step in steps if step[0] != "anew"], restarts=True):
        assert side.lost_answers == 0


ANSWERED_AT_ONCE = [
    *(("send", 0), ("send", 1), ("deliver", 0), ("deliver", 1)),  # each knows the other
    *(("restart", 1), ("send", 1), ("say", 0), ("deliver", 0)),  # the request and, behind it, RESET are under way
    *(("deliver", 1), ("answer", 0), ("deliver", 1)),
]


def test_ablation_without_the_rule_of_newborns_an_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(ANSWERED_AT_ONCE, restarts=True)[0].lost_answers == 0

    rule = belonging_of

    def without(own: int, remote: int, sender: int, receiver: int, *, is_over: bool) -> Belonging:
        return rule(own, remote, sender, receiver, is_over=True)

    monkeypatch.setitem(globals(), "belonging_of", without)
    assert run(ANSWERED_AT_ONCE, restarts=True)[0].lost_answers > 0


def test_ablation_without_reset_a_restarted_peer_is_never_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver's predecessor had records; without the rule its peer would go on at a number nobody expects."""
    steps = [("say", 1), ("deliver", 1), ("send", 0), ("deliver", 0), ("say", 1), ("deliver", 1), ("restart", 1)]
    a, b = run(steps, restarts=True)
    assert b.received == a.sent
    monkeypatch.setattr(Side, "begin_anew", lambda self: None)
    a, b = run(steps, restarts=True)
    assert b.received != a.sent
