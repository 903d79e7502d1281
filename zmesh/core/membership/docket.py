"""A steward's work: it hears accusers and the accused, waits for company, and puts the next view together.

Any node may be a steward of a view, by its place on a ring; the evidence travels with what it decides, so it need not
be believed. It hears the other observers and the accused itself before it decides: that is the probe by another way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.messages import Ask, Refusal, Vouch
from zmesh.core.membership.statements import Accusation, Alive, Charge, Gone, Left, Removal, Statement
from zmesh.core.membership.tally import Rival, Tally

__all__ = ["LAST_TURN", "Docket"]

FOREVER: Final = float("inf")
LAST_TURN: Final = 4  # of those that are told to be on the safe side: they act if no steward does
ENDED_SHARE: Final = 0.15  # of the wait, where all observers have answered
SILENT_SHARE: Final = 0.6  # the accused may still be heard
CROWD: Final = 16  # joins at once; more are let in together, when no more come
CROWD_QUIET_S: Final = 0.5
MAX_LIST: Final = 16_384
COOLING_S: Final = 5.0  # what was refuted is not looked into again by the same accuser for so long, doubled each time
COOLING_MAX_S: Final = 80.0
MAX_COOLING: Final = 4096


class Docket:
    """Everything that waits for the next view here."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._alive: dict[str, Alive] = {}
        self._left: dict[str, Left] = {}
        self._tallies: dict[str, Tally] = {}
        self._rivals: dict[str, Rival] = {}
        self._cooling: dict[tuple[str, str], tuple[float, float]] = {}
        self._turn = 0
        self._first_at = self._last_at = FOREVER
        self.due = FOREVER
        self.judge_itself: Callable[[str, Charge], bool | None] = lambda node_id, charge: None

    # -- what is said ------------------------------------------------------------------------------------------------

    def take(self, sender: str, turn: int, statements: tuple[Statement, ...] | list[Statement]) -> None:
        """A petition. Each statement stands for itself, whoever passed it on."""
        was_empty = not (self._alive or self._left or self._tallies)
        for statement in statements:
            if isinstance(statement, Alive):
                self._take_alive(statement)
            elif isinstance(statement, Left):
                self._take_left(statement)
            else:
                self._take_accusation(statement)
        self._turn = turn if was_empty else min(turn, self._turn)
        self._plan()

    def vouch(self, sender: str, vouch: Vouch) -> None:
        """Somebody hears an accused, or is it."""
        rival = self._rivals.get(vouch.node_id)
        if rival is not None and sender == vouch.node_id:
            self._judge_rival(rival, vouch.incarnation)
        tally = self._tallies.get(vouch.node_id)
        if tally is None or (tally.alive.incarnation, tally.alive.life) != (vouch.incarnation, vouch.life):
            return
        if sender == vouch.node_id:
            tally.is_refuted = True
        elif self._ledger.is_observer(sender, vouch.node_id):
            accusation = tally.accusations.get(sender)
            if accusation is None or (accusation.charge is Charge.LOSSY) == (vouch.charge is Charge.LOSSY):
                tally.accusations.pop(sender, None)
                tally.vouched[sender] = None
        self._plan()

    def review(self) -> None:
        """The view changed: keep what is not done, if it is for us to do; others may have sent it here already.

        A steward of the view before keeps joins and goodbyes too, but is the last to act on them.
        """
        ledger = self._ledger
        self._alive = {node_id: alive for node_id, alive in self._alive.items() if ledger.is_news(alive)}
        self._left = {node_id: left for node_id, left in self._left.items() if self._is_member(left)}
        self._rivals = {node_id: rival for node_id, rival in self._rivals.items() if node_id in self._alive}
        is_steward = ledger.view.is_near or ledger.own.node_id in ledger.view.stewards()
        self._tallies = {node_id: t for node_id, t in self._tallies.items() if is_steward and self._is_open(t)}
        self._turn = self._turn if is_steward else LAST_TURN
        self._first_at = self._last_at = ledger.now if self._alive or self._left else FOREVER
        self._plan()

    def restart(self) -> None:
        """This node did not run for a while: what it has heard of others' silence may be out of date.

        What nodes say of themselves is not: a steward that is always late would else never let anybody in.
        """
        self._tallies.clear()
        for node_id in self._rivals:
            self._alive.pop(node_id, None)  # who was asked may have answered in vain; it will be asked again
        self._rivals.clear()
        if not self._alive and not self._left:
            self._first_at = self._last_at = FOREVER
        self._plan()

    def _is_open(self, tally: Tally) -> bool:
        alive = tally.alive
        return self._ledger.is_in_force(alive.node_id, alive.incarnation, alive.life)

    def _note(self) -> None:
        now = self._ledger.now
        self._first_at = min(self._first_at, now)
        self._last_at = now

    def _take_alive(self, alive: Alive) -> None:
        ledger, known = self._ledger, self._alive.get(alive.node_id)
        if not ledger.is_news(alive) or (known is not None and alive.order <= known.order):
            return
        if len(self._alive) >= MAX_LIST or not ledger.verifies(alive):
            return
        if alive.node_id == ledger.own.node_id and alive.incarnation != ledger.own.incarnation:
            self._refuse(alive, ledger.own.incarnation)  # nobody need be asked whether we live
            return
        member = ledger.member(alive.node_id)
        is_rival = member is not None and member.incarnation != alive.incarnation and alive.node_id not in self._left
        if member is not None and is_rival and alive.node_id not in self._rivals:
            self._rivals[alive.node_id] = Rival(alive, ledger.now + ledger.settings.ask_wait_s)
            ledger.send(alive.node_id, Ask(alive.node_id, member.incarnation, member.life, Charge.SILENT))
        self._alive[alive.node_id] = alive
        self._note()

    def _judge_rival(self, rival: Rival, incarnation: int) -> None:
        """Something of that name answered where the member is."""
        node_id = rival.alive.node_id
        del self._rivals[node_id]
        if incarnation < rival.alive.incarnation:
            self._alive.pop(node_id, None)
            self._refuse(rival.alive, incarnation)

    def _refuse(self, rival: Alive, incarnation: int) -> None:
        self._ledger.send_to(rival.contact, Refusal("duplicate_name", incarnation))
        reason = f"a second node that calls itself {rival.node_id} was refused: choose another name, or stop that one"
        self._ledger.report("duplicate_name", rival.node_id, reason)

    def _take_left(self, left: Left) -> None:
        member = self._ledger.member(left.node_id)
        is_news = member is not None and member.incarnation == left.incarnation and left.node_id not in self._left
        if is_news and self._ledger.verifies(left):
            self._left[left.node_id] = left
            self._note()

    def _take_accusation(self, accusation: Accusation) -> None:
        ledger, node_id = self._ledger, accusation.node_id
        if node_id == ledger.own.node_id or not self.may_accuse(accusation):
            return
        if not ledger.verifies(accusation):
            return
        tally = self._tallies.get(node_id)
        is_new = tally is None
        if tally is None:
            tally = self._tallies[node_id] = Tally(ledger.view.members[node_id], ledger.now)
        tally.accusations[accusation.accuser] = accusation
        tally.vouched.pop(accusation.accuser, None)
        if is_new:
            self._hear_others(tally, accusation)

    def may_accuse(self, accusation: Accusation) -> bool:
        """Only observers may, each once, of the life in force, and not again at once when that was refuted."""
        ledger = self._ledger
        if not ledger.is_in_force(accusation.node_id, accusation.incarnation, accusation.life):
            return False
        until, _ = self._cooling.get((accusation.accuser, accusation.node_id), (0.0, 0.0))
        return until <= ledger.now and ledger.is_observer(accusation.accuser, accusation.node_id)

    def _hear_others(self, tally: Tally, accusation: Accusation) -> None:
        ledger, alive = self._ledger, tally.alive
        ask = Ask(alive.node_id, alive.incarnation, alive.life, accusation.charge)
        for observer in ledger.view.neighbours(alive.node_id):
            if observer == ledger.own.node_id:
                if self.judge_itself(alive.node_id, accusation.charge):
                    tally.vouched[observer] = None
            elif observer != accusation.accuser:
                ledger.send(observer, ask)
        ledger.send(alive.node_id, ask)

    # -- when to decide ----------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        self.due = min(self._quick_due(), self._silent_due(), self._lossy_due())
        if self.due < FOREVER:
            self.due += self._turn * self._ledger.settings.takeover_s

    def _quick_due(self) -> float:
        if not self._alive and not self._left:
            return FOREVER
        settings = self._ledger.settings
        due = self._first_at + self._ledger.batch_wait_s()
        if len(self._alive) > CROWD:
            due = max(due, self._last_at + CROWD_QUIET_S)
        due = min(due, self._first_at + settings.batch_max_s)
        if len(self._alive) == len(self._rivals) and self._rivals and not self._left:
            due = max(due, min(rival.until for rival in self._rivals.values()))
        return due

    def _silent_due(self) -> float:
        tallies = [tally for tally in self._tallies.values() if not tally.is_lossy]
        if not tallies:
            return FOREVER
        settings = self._ledger.settings
        due = max(self._settled_at(tally) for tally in tallies)
        if len(tallies) > 1:  # where two fall silent there may be more: they shall go in one view
            due = max(due, tallies[-1].opened_at + settings.ask_wait_s)
        return min(due, tallies[0].opened_at + settings.hold_s)

    def _settled_at(self, tally: Tally) -> float:
        settings = self._ledger.settings
        if tally.is_refuted:
            return tally.opened_at
        observers = self._ledger.view.neighbours(tally.alive.node_id)
        missing = sum(1 for o in observers if o not in tally.accusations and o not in tally.vouched)
        if missing:
            return tally.opened_at + settings.ask_wait_s
        has_ended = tally.count(Charge.ENDED) >= self._ledger.quorum(tally.alive.node_id)
        return tally.opened_at + settings.ask_wait_s * (ENDED_SHARE if has_ended else SILENT_SHARE)

    def _lossy_due(self) -> float:
        opened = [tally.opened_at for tally in self._tallies.values() if tally.is_lossy]
        hold_s = self._ledger.settings.lossy_hold_s
        return min(max(opened) + hold_s, min(opened) + 2 * hold_s) if opened else FOREVER

    # -- the decision ------------------------------------------------------------------------------------------------

    def decide(self) -> tuple[list[Alive], list[Gone]]:
        """The time has come: who is put in, and who is dropped."""
        ledger = self._ledger
        is_lossy_due = self._lossy_due() <= ledger.now
        decided = {node_id: t for node_id, t in self._tallies.items() if is_lossy_due or not t.is_lossy}
        dropped: dict[str, Gone] = {
            node_id: self._removal(t) for node_id, t in decided.items() if self._is_convicted(t)
        }
        dropped.update({left.node_id: left for left in self._left.values() if self._is_member(left)})
        now = ledger.now
        waiting = {node_id for node_id, rival in self._rivals.items() if rival.until > now}
        put = [
            a
            for a in self._alive.values()
            if ledger.is_news(a) and a.node_id not in dropped and a.node_id not in waiting
        ]
        self._cool_down(decided, dropped)
        self._alive = {node_id: a for node_id, a in self._alive.items() if node_id in waiting}
        self._rivals = {node_id: r for node_id, r in self._rivals.items() if node_id in waiting}
        self._left.clear()
        self._tallies = {node_id: t for node_id, t in self._tallies.items() if node_id not in decided}
        self._first_at = self._last_at = now if self._alive else FOREVER
        self._plan()
        return put, list(dropped.values())

    def needed(self, tally: Tally, accusers: int) -> int:
        """How many accusers it takes: most of those that answer, and never less than the quorum."""
        answered = accusers + len(tally.vouched)
        most = math.ceil(answered * self._ledger.settings.agreement)
        return max(self._ledger.quorum(tally.alive.node_id), most)

    def _is_convicted(self, tally: Tally) -> bool:
        if tally.is_lossy:
            lossy = tally.count(Charge.LOSSY)
            return lossy >= self.needed(tally, lossy)
        accusers = len(tally.accusations)  # those who say that it loses do not hear it either
        return not tally.is_refuted and accusers >= self.needed(tally, accusers)

    def _removal(self, tally: Tally) -> Removal:
        alive = tally.alive
        return Removal(alive.node_id, alive.incarnation, alive.life, tuple(tally.accusations.values()))

    def _is_member(self, left: Left) -> bool:
        member = self._ledger.member(left.node_id)
        return member is not None and member.incarnation == left.incarnation

    def _cool_down(self, decided: dict[str, Tally], dropped: dict[str, Gone]) -> None:
        """Lone accusers of nodes that others hear are not heeded for a while: two liars cannot keep stewards busy."""
        now = self._ledger.now
        for node_id, tally in decided.items():
            quorum = self._ledger.quorum(node_id)
            if node_id in dropped or len(tally.accusations) >= quorum or not (tally.vouched or tally.is_refuted):
                continue
            for accuser in tally.accusations:
                _, last_s = self._cooling.get((accuser, node_id), (0.0, COOLING_S / 2))
                cooling_s = min(2 * last_s, COOLING_MAX_S)
                if len(self._cooling) < MAX_COOLING:
                    self._cooling[(accuser, node_id)] = (now + cooling_s, cooling_s)
