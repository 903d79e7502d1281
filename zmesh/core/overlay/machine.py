"""The membership machine: inputs are dispatched to its parts, effects collected. docs/spec/06-membership.md has the rules.

Each input takes the time, never earlier than the last, and returns effects in the order in which they must be done. A
heartbeat that says nothing new, the input that comes a hundred times as often as all others, touches one ``Watch``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from zmesh.core.membership.messages import Contact
from zmesh.core.overlay.docket import Docket
from zmesh.core.overlay.ledger import Ledger
from zmesh.core.overlay.messages import (
    Answer,
    Ask,
    Body,
    Heartbeat,
    Hello,
    KnockOutcome,
    Notice,
    OverlayEffect,
    OverlayMessage,
    Petition,
    Pull,
    Refusal,
    Vouch,
)
from zmesh.core.overlay.petitions import Petitions
from zmesh.core.overlay.presence import Presence
from zmesh.core.overlay.settings import OverlaySettings
from zmesh.core.overlay.spread import Spread
from zmesh.core.overlay.statements import Alive, Charge, Gone, Left, Notary, Removal, outlives, signed
from zmesh.core.overlay.view import View, ViewStore
from zmesh.core.overlay.watch import Watch, Watching
from zmesh.errors import check

if TYPE_CHECKING:
    import random

__all__ = ["Overlay"]

FOREVER: Final = float("inf")
FIGHT_S: Final = 2.0  # an accused node speaks more often for so long
FIGHT_RATE: Final = 4.0
TELL_INTERVAL_S: Final = 1.0
MAX_TOLD: Final = 1024
LAST_TURN: Final = 4  # of neighbours that are told of a goodbye: they act if no steward does


class Overlay:
    """Membership, as one node sees it."""

    docket_type: ClassVar[type[Docket]] = Docket
    watching_type: ClassVar[type[Watching]] = Watching

    def __init__(
        self,
        own: Alive,
        settings: OverlaySettings,
        notary: Notary,
        random: random.Random,
        store: ViewStore | None = None,
    ) -> None:
        """``own`` need not be signed yet. ``store``: shared by the machines of one process, to save memory."""
        own = signed(own, notary)
        self._ledger = Ledger(own, settings, notary, store or ViewStore(settings.near_size), random)
        self._docket = self.docket_type(self._ledger)
        self._petitions = Petitions(self._ledger, self._docket)
        self._watching = self.watching_type(self._ledger, self._petitions)
        self._docket.judge_itself = self._judge
        self._spread = Spread(self._ledger)
        self._presence = Presence(self._ledger, self._petitions, self._watching)
        self._number = 0
        self._beat_at = FOREVER
        self._fight_until = -FOREVER
        self._told: dict[str, float] = {}
        self._due = -FOREVER
        self._left = False

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The members at this moment."""
        return self._ledger.view

    @property
    def views_installed(self) -> int:
        """How many views there have been."""
        return self._ledger.views

    @property
    def own(self) -> Alive:
        """What this node states of itself."""
        return self._ledger.own

    @property
    def is_out(self) -> bool:
        """Whether the others have removed this node, as far as it knows."""
        return self._presence.is_out

    def suspects(self) -> list[str]:
        """Those of its neighbours that this node does not hear."""
        return [watch.alive.node_id for watch in self._watching if watch.is_suspect]

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due; None after ``leave``."""
        return None if self._left else self._due

    # -- inputs ------------------------------------------------------------------------------------------------------

    def receive(self, now: float, sender: str, message: OverlayMessage) -> Sequence[OverlayEffect]:
        """A message from the node that the connection authenticated as ``sender``."""
        if type(message) is Heartbeat:
            watch = self._watching.get(sender)
            if (
                watch is not None
                and message.digest == self._ledger.view.digest
                and message.incarnation == watch.alive.incarnation
                and not (watch.is_suspect or watch.is_accused or message.wants_answer or now > self._due or self._left)
            ):
                watch.heard_at = now
                watch.count(message.number)
                return ()
        self._begin(now)
        if not self._left:
            self._note_life(sender, message)
            self._HANDLERS[type(message)](self, sender, message)
        return self._end()

    def handle_timeout(self, now: float) -> Sequence[OverlayEffect]:
        """Do what has fallen due. The first call starts the machine."""
        self._begin(now)
        if self._beat_at == FOREVER and not self._left:
            self._beat_at = now
            self._presence.start()
        if not self._left:
            self._do_due()
        return self._end()

    def meet(self, now: float, contact: Contact) -> Sequence[OverlayEffect]:
        """A node of the mesh was introduced: it can be written to."""
        self._begin(now)
        if not self._left:
            self._presence.meet(contact)
        return self._end()

    def knocked(self, now: float, node_id: str, outcome: KnockOutcome) -> Sequence[OverlayEffect]:
        """What became of a ``Knock``."""
        self._begin(now)
        self._watching.knocked(node_id, outcome)
        return self._end()

    def disconnected(self, now: float, node_id: str) -> Sequence[OverlayEffect]:
        """A connection with that node closed: a hint that it is gone. It is asked at once."""
        self._begin(now)
        if not self._left:
            self._watching.hint(node_id)
        return self._end()

    def heard(self, now: float, node_id: str) -> Sequence[OverlayEffect]:
        """Other traffic came from that node: it lives."""
        self._begin(now)
        watch = self._watching.get(node_id)
        if watch is not None:
            self._watching.heard(watch)
        return self._end()

    def restate(
        self, now: float, *, contact: Contact | None = None, record_hash: bytes | None = None, certificate: bytes | None = None
    ) -> Sequence[OverlayEffect]:
        """This node has other addresses, another record or another certificate than before."""
        self._begin(now)
        own = self._ledger.own
        check(contact is None or contact.incarnation == own.incarnation, "an incarnation never changes while it lives")
        self._presence.restate(
            version=own.version + 1,
            contact=own.contact if contact is None else contact,
            record_hash=own.record_hash if record_hash is None else record_hash,
            certificate=own.certificate if certificate is None else certificate,
        )
        return self._end()

    def leave(self, now: float) -> Sequence[OverlayEffect]:
        """Say goodbye. Nothing comes out of this machine afterwards."""
        self._begin(now)
        ledger = self._ledger
        if not self._left:
            left = signed(Left(ledger.own.node_id, ledger.own.incarnation), ledger.notary)
            stewards = [name for name in ledger.view.stewards() if name != ledger.own.node_id]
            for turn, steward in enumerate(stewards):
                ledger.send(steward, Petition(turn, (left,)))
            for watch in self._watching:
                if watch.alive.node_id not in stewards:
                    ledger.send_to(watch.alive.contact, Petition(LAST_TURN, (left,)))
        self._left = True
        return self._end()

    def start_in(self, view: View) -> None:
        """For simulations: begin as a member of this view, which must have what this node states of itself."""
        check(view.members[self.own.node_id] is self.own, "the view is of others")
        self._ledger.view = view
        self._watching.follow()
        self._due = min(self._due, self._watching.due)

    # -- the frame of every input ------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        ledger = self._ledger
        check(now >= ledger.now, f"time went back from {ledger.now} to {now}")
        late_s = now - self._due
        ledger.now = now
        ledger.effects = []
        if FOREVER > late_s > self._watching.pace.interval_s:
            self._watching.forgive(late_s)
            self._docket.restart()
            self._beat_at = now

    def _end(self) -> Sequence[OverlayEffect]:
        self._petitions.flush()
        presence, docket = self._presence, self._docket
        self._due = min(self._beat_at, self._watching.due, self._petitions.due, docket.due, presence.due)
        return self._ledger.effects

    def _do_due(self) -> None:
        now = self._ledger.now
        if self._watching.due <= now:
            self._watching.handle_timeout()
        if self._petitions.due <= now:
            self._petitions.handle_timeout()
        self._petitions.flush()
        if self._docket.due <= now:
            put, drop = self._docket.decide()
            if put or drop:
                self._install(put, drop, "")
        if self._presence.due <= now:
            self._presence.handle_timeout()
        if self._beat_at <= now:
            self._beat()

    def _beat(self) -> None:
        ledger = self._ledger
        self._number += 1
        heartbeat = Heartbeat(ledger.own.incarnation, self._number, ledger.view.digest)
        if not self._presence.is_out:
            for watch in self._watching:
                ledger.send_to(watch.alive.contact, heartbeat)
        self._watching.relax()
        interval_s = self._watching.pace.interval_s / (FIGHT_RATE if self._fight_until > ledger.now else 1.0)
        self._beat_at = ledger.now + interval_s * ledger.random.uniform(0.9, 1.0)

    def _install(self, put: list[Alive], drop: list[Gone], source: str, body: Body | None = None) -> None:
        ledger, before = self._ledger, self._ledger.view
        led_here = ledger.install(put, drop, body)
        self._docket.review()
        self._watching.follow()
        self._petitions.review()
        self._spread.announce(led_here, before, source)
        own = ledger.member(ledger.own.node_id)
        if own is not None:
            self._presence.seen_in_view(own)
        self._presence.cut_happened(sum(isinstance(gone, Removal) for gone in drop), len(before))

    # -- messages ----------------------------------------------------------------------------------------------------

    def _note_life(self, sender: str, message: OverlayMessage) -> None:
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
        if sender not in ledger.view.members:
            self._tell_gone(sender)
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
            self._meet_namesake(alive)
            return
        ledger.meet(alive.contact)
        member = ledger.member(sender)
        if member is not None and member.order >= alive.order:
            self._greet(member, message)
        elif not outlives(alive, ledger.gone.get(sender)):
            self._tell_gone(sender)
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
        if hello.digest != ledger.view.digest:
            ledger.send(member.node_id, Hello(ledger.own, ledger.view.digest, len(ledger.view)))
        if hello.size > 0:
            self._spread.saw(member.node_id, hello.digest)

    def _on_petition(self, sender: str, message: Petition) -> None:
        if sender in self._ledger.view.members:
            self._docket.take(sender, message.turn, message.statements)

    def _on_ask(self, sender: str, message: Ask) -> None:
        ledger, own = self._ledger, self._ledger.own
        if message.node_id == own.node_id:
            ledger.send(sender, Vouch(own.node_id, own.incarnation, own.life, message.charge))
            self._fight_until = ledger.now + FIGHT_S
            self._beat_at = ledger.now
        elif self._judge(message.node_id, message.charge):
            ledger.send(sender, Vouch(message.node_id, message.incarnation, message.life, message.charge))

    def _judge(self, node_id: str, charge: Charge) -> bool:
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
        self._spread.saw(sender, message.digest)

    def _on_pull(self, sender: str, message: Pull) -> None:
        if message.alive is not None and message.alive.node_id == sender:
            self._ledger.meet(message.alive.contact)
        body = self._spread.answer(message)
        if body is not None:
            self._ledger.send(sender, body)

    def _on_body(self, sender: str, message: Body) -> None:
        ledger = self._ledger
        if ledger.knows(message.digest) and message.digest != 0:
            return
        put, refuted = self._sift_alive(message)
        returning = {alive.node_id: alive for alive in put}
        drop = [gone for gone in self._sift_gone(sender, message) if not self._has_returned(returning, gone)]
        if refuted:
            ledger.send(sender, Body(0, 0, (), tuple(refuted)))
        if put or drop:
            self._install(put, drop, sender, message)

    def _on_refusal(self, sender: str, message: Refusal) -> None:
        ledger = self._ledger
        name = ledger.own.node_id
        reason = f"{sender} refuses this node: a running node is called {name} already; choose another name"
        if message.code == "superseded":
            reason = f"{sender} knows a later start of {name}: is the clock set back, or does another run under the name?"
        ledger.report(message.code if message.code == "superseded" else "duplicate_name", sender, reason)

    _HANDLERS: ClassVar[dict[type, Callable[[Overlay, str, Any], None]]] = {
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
    }

    # -- bodies ------------------------------------------------------------------------------------------------------

    def _sift_alive(self, body: Body) -> tuple[list[Alive], list[Gone]]:
        """Those statements of life that are news, and the ends known here of those that are not."""
        ledger = self._ledger
        members, gone, own_id = ledger.view.members, ledger.gone, ledger.own.node_id
        put: list[Alive] = []
        refuted: list[Gone] = []
        for alive in body.alive:
            node_id = alive.node_id
            known = members.get(node_id)
            if known is alive or (known is not None and alive.order <= known.order):
                continue
            end = gone.get(node_id)
            if end is not None and not outlives(alive, end):
                refuted.append(end)
            elif node_id == own_id and alive.order > ledger.own.order:
                self._meet_namesake(alive)
            elif ledger.verifies(alive):
                put.append(alive)
        return put, refuted

    def _sift_gone(self, sender: str, body: Body) -> list[Gone]:
        """Those ends that are news and proved. Of the others, whoever is said to be gone is told, and may refute."""
        ledger = self._ledger
        drop: list[Gone] = []
        for gone in body.gone:
            node_id = gone.node_id
            if node_id == ledger.own.node_id:
                self._presence.removed(gone, sender)
                continue
            member = ledger.member(node_id)
            if member is None or outlives(member, gone):
                if member is None and node_id not in ledger.gone and body.digest != 0:
                    ledger.bury([gone])
            elif self._believes(gone):
                drop.append(gone)
            else:
                ledger.send(node_id, Body(0, 0, (), (gone,)))
        return drop

    @staticmethod
    def _has_returned(returning: dict[str, Alive], gone: Gone) -> bool:
        alive = returning.get(gone.node_id)
        return alive is not None and outlives(alive, gone)

    def _believes(self, gone: Gone) -> bool:
        """Own eyes come first where few are needed to accuse; where many are, their agreement does."""
        if not self._ledger.is_proved(gone):
            return False
        is_weak = isinstance(gone, Removal) and self._ledger.view.is_near
        return not (is_weak and self._watching.hears(gone.node_id))

    def _tell_gone(self, sender: str) -> None:
        """To one who does not know that it was removed."""
        ledger = self._ledger
        gone, now = ledger.gone.get(sender), ledger.now
        if gone is not None and now - self._told.get(sender, -FOREVER) >= TELL_INTERVAL_S:
            if len(self._told) >= MAX_TOLD:
                self._told.clear()
            self._told[sender] = now
            ledger.send(sender, Body(0, 0, (), (gone,)))

    def _meet_namesake(self, alive: Alive) -> None:
        """Somebody else has our name."""
        ledger = self._ledger
        own = ledger.own
        if alive.incarnation != own.incarnation:
            ledger.send_to(alive.contact, Refusal("duplicate_name", own.incarnation))
            reason = f"another running node calls itself {own.node_id} too: rename one of them"
            ledger.report("duplicate_name", own.node_id, reason)
