"""What is done with each message: docs/spec/06-membership.md, section 3, one handler for each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from zmesh.core.membership.docket import Docket
from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.merge import Merge
from zmesh.core.membership.messages import (
    Answer,
    Ask,
    Body,
    Fetch,
    Heartbeat,
    Hello,
    MembershipMessage,
    Notice,
    Petition,
    Pull,
    Records,
    Refusal,
    Vouch,
)
from zmesh.core.membership.neighbour import Watch
from zmesh.core.membership.petitions import Petitions
from zmesh.core.membership.records import RecordStore
from zmesh.core.membership.restraint import Restraint
from zmesh.core.membership.spread import Spread
from zmesh.core.membership.statements import Alive, Charge, Gone, Left, outlives
from zmesh.core.membership.watch import Watching

__all__ = ["Conversation", "Install"]

GREET_INTERVAL_S: Final = 1.0  # two members whose views differ for a while would greet each other without end


class Install(Protocol):
    """Goes over to the next view."""

    def __call__(self, put: list[Alive], drop: list[Gone], source: str, body: Body | None = None) -> None:
        """``body``: what led there, if it came from ``source``."""


class Conversation:
    """Answers messages, with the parts of the machine."""

    def __init__(
        self,
        ledger: Ledger,
        docket: Docket,
        petitions: Petitions,
        watching: Watching,
        spread: Spread,
        merge: Merge,
        records: RecordStore,
        install: Install,
        fight: Callable[[str, Vouch], None],
    ) -> None:
        """``fight`` is called when this node stands accused, with the steward and what to tell it."""
        self._ledger = ledger
        self._docket = docket
        self._petitions = petitions
        self._watching = watching
        self._spread = spread
        self._merge = merge
        self._records = records
        self._install = install
        self._fight = fight
        self.greeting = Restraint(GREET_INTERVAL_S)

    def take(self, sender: str, message: MembershipMessage) -> None:
        """A message. Any traffic from a node counts as life, for the incarnation it is of."""
        self._note_life(sender, message)
        self._HANDLERS[type(message)](self, sender, message)

    def _note_life(self, sender: str, message: MembershipMessage) -> None:
        watch: Watch | None = self._watching.get(sender)
        if watch is None:
            return
        if isinstance(message, Heartbeat | Answer) and message.incarnation != watch.alive.incarnation:
            return
        self._watching.heard(watch)
        if isinstance(message, Heartbeat) and message.number >= 0:
            watch.count(message.number)

    def _on_heartbeat(self, sender: str, message: Heartbeat) -> None:
        ledger = self._ledger
        if sender in ledger.gone and sender not in ledger.view.members:
            self._merge.tell_gone(sender)
            return
        if message.wants_answer:
            ledger.send(sender, Answer(ledger.own.incarnation, ledger.view.digest))
        self._spread.saw(sender, message.digest)

    def _on_answer(self, sender: str, message: Answer) -> None:
        self._spread.saw(sender, message.digest)

    def _on_hello(self, sender: str, message: Hello) -> None:
        ledger, alive = self._ledger, message.alive
        if alive.node_id != sender or not ledger.verifies(alive):
            return
        if sender == ledger.own.node_id:
            self._merge.meet_namesake(alive)
            return
        ledger.meet(alive.contact)
        member = ledger.member(sender)
        if member is not None and member.order >= alive.order:
            self._greet(member, message)
        elif not outlives(alive, ledger.gone.get(sender)):
            self._merge.tell_gone(sender)
        elif message.size > 0:
            self._spread.saw(sender, message.digest)
        else:
            self._petitions.put(alive)

    def _greet(self, member: Alive, hello: Hello) -> None:
        """It is a member here; is this node one there, and is its view ours?"""
        ledger = self._ledger
        if hello.alive.incarnation < member.incarnation:
            ledger.send_to(hello.alive.contact, Refusal("superseded", member.incarnation))
            return
        is_question = hello.size == 0  # from its timer; any other may be the answer to an answer
        if hello.digest != ledger.view.digest and (is_question or self.greeting.allows(member.node_id, ledger.now)):
            ledger.send(member.node_id, Hello(ledger.own, ledger.view.digest, len(ledger.view)))
        if hello.size > 0:
            self._spread.saw(member.node_id, hello.digest)

    def _on_petition(self, sender: str, message: Petition) -> None:
        """Also from one that is no member here yet: a joiner may be a steward before it has seen the view."""
        for statement in message.statements:
            if isinstance(statement, Left) and self._ledger.verifies(statement):
                self._watching.dismiss(statement)
        self._docket.take(sender, message.turn, message.statements)

    def _on_ask(self, sender: str, message: Ask) -> None:
        ledger, own = self._ledger, self._ledger.own
        if message.node_id == own.node_id:
            self._fight(sender, Vouch(own.node_id, own.incarnation, own.life, message.charge))
        elif self.judge(message.node_id, message.charge):
            ledger.send(sender, Vouch(message.node_id, message.incarnation, message.life, message.charge))

    def judge(self, node_id: str, charge: Charge) -> bool:
        """Whether this node, an observer, hears that one; if not, it looks into it."""
        watch = self._watching.get(node_id)
        if watch is None:
            return False
        if charge is Charge.LOSSY:
            return watch.is_sound
        if not self._watching.hears(node_id):
            self._watching.confirm(node_id)
            return False
        return True

    def _on_vouch(self, sender: str, message: Vouch) -> None:
        self._docket.vouch(sender, message)

    def _on_notice(self, sender: str, message: Notice) -> None:
        self._spread.noticed(sender, message.digest)

    def _on_pull(self, sender: str, message: Pull) -> None:
        if message.alive is not None and message.alive.node_id == sender:
            self._ledger.meet(message.alive.contact)
        body = self._spread.answer(message)
        if body is not None:
            self._ledger.send(sender, body)

    def _on_body(self, sender: str, message: Body) -> None:
        ledger = self._ledger
        if message.digest == ledger.view.digest:
            return  # not where it is one of before: who came last and has left leads back to that
        put, refuted = self._merge.sift_alive(message)
        drop = self._merge.sift_gone(sender, message, put)
        if refuted:
            ledger.send(sender, Body(0, 0, (), tuple(refuted)))
        if put or drop:
            self._install(put, drop, sender, message)

    def _on_refusal(self, sender: str, message: Refusal) -> None:
        ledger = self._ledger
        name = ledger.own.node_id
        reason = f"{sender} refuses this node: a running node is called {name} already; choose another name"
        if message.code == "superseded":
            reason = (
                f"{sender} knows a later start of {name}: is the clock set back, or does another run under the name?"
            )
        ledger.report(message.code if message.code == "superseded" else "duplicate_name", sender, reason)

    def _on_fetch(self, sender: str, message: Fetch) -> None:
        self._records.on_fetch(sender, message)

    def _on_records(self, _sender: str, message: Records) -> None:
        self._records.on_records(message)

    _HANDLERS: ClassVar[dict[type, Callable[[Conversation, str, Any], None]]] = {
        Heartbeat: _on_heartbeat,
        Answer: _on_answer,
        Hello: _on_hello,
        Petition: _on_petition,
        Ask: _on_ask,
        Vouch: _on_vouch,
        Notice: _on_notice,
        Pull: _on_pull,
        Body: _on_body,
        Refusal: _on_refusal,
        Fetch: _on_fetch,
        Records: _on_records,
    }
