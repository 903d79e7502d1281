"""The membership machine: inputs are dispatched to its parts, effects collected. The rules: docs/spec/06-membership.md.

Each input takes the time, never earlier than the last, and returns effects in the order in which they must be done. A
heartbeat that says nothing new, the input that comes a hundred times as often as all others, touches one ``Watch``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from zmesh.core.membership.conversation import Conversation
from zmesh.core.membership.docket import LAST_TURN, Docket
from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.member import Contact
from zmesh.core.membership.merge import Merge
from zmesh.core.membership.messages import Body, Heartbeat, KnockOutcome, MembershipEffect, MembershipMessage, Petition
from zmesh.core.membership.petitions import Petitions
from zmesh.core.membership.presence import Presence
from zmesh.core.membership.pulse import Pulse
from zmesh.core.membership.records import RecordStore, record_hash_of
from zmesh.core.membership.settings import MembershipSettings
from zmesh.core.membership.spread import Spread
from zmesh.core.membership.statements import Alive, Gone, Left, Notary, Removal, signed
from zmesh.core.membership.view import View, ViewStore
from zmesh.core.membership.watch import Watching
from zmesh.errors import check

if TYPE_CHECKING:
    import random

__all__ = ["Membership"]

FOREVER: Final = float("inf")


class Membership:
    """Membership, as one node sees it."""

    ledger_type: ClassVar[type[Ledger]] = Ledger
    docket_type: ClassVar[type[Docket]] = Docket
    watching_type: ClassVar[type[Watching]] = Watching
    presence_type: ClassVar[type[Presence]] = Presence
    merge_type: ClassVar[type[Merge]] = Merge
    records_type: ClassVar[type[RecordStore]] = RecordStore

    def __init__(
        self,
        own: Alive,
        settings: MembershipSettings,
        notary: Notary,
        random: random.Random,
        store: ViewStore | None = None,
        record: bytes = b"",
    ) -> None:
        """``own`` need not be signed yet, nor have the hash of ``record``, which says more of this node.

        ``store``: shared by the machines of one process, to save memory.
        """
        own = signed(replace(own, record_hash=record_hash_of(record) or own.record_hash), notary)
        self._ledger = self.ledger_type(own, settings, notary, store or ViewStore(settings.near_size), random)
        self._docket = self.docket_type(self._ledger)
        self._petitions = Petitions(self._ledger, self._docket)
        self._watching = self.watching_type(self._ledger, self._petitions)
        self._spread = Spread(self._ledger)
        self._records = self.records_type(self._ledger, record)
        self._presence = self.presence_type(self._ledger, self._petitions, self._watching)
        self._pulse = Pulse(self._ledger, self._watching, self._presence)
        self._conversation = self._make_conversation()
        self._docket.judge_itself = self._conversation.judge
        self._due = -FOREVER
        self._rest_due = -FOREVER  # of what falls due less often than heartbeats
        self._forgiven_at = -FOREVER
        self._left = False

    def _make_conversation(self) -> Conversation:
        ledger, watching = self._ledger, self._watching
        merge = self.merge_type(ledger, watching, self._presence)
        parts = (ledger, self._docket, self._petitions, watching, self._spread, merge, self._records)
        return Conversation(*parts, self._install, self._pulse.fight)

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

    def refuses(self, contact: Contact) -> str:
        """Why a node that calls itself this may not be introduced: "self", "duplicate_name", "superseded", or ""."""
        return self._ledger.refuses(contact)

    def record_of(self, node_id: str) -> bytes | None:
        """The record that the member states at present, if it has been fetched."""
        return self._records.get(node_id)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due; None after ``leave``."""
        return None if self._left else self._due

    # -- inputs ------------------------------------------------------------------------------------------------------

    def receive(self, now: float, sender: str, message: MembershipMessage) -> Sequence[MembershipEffect]:
        """A message from the node that the connection authenticated as ``sender``."""
        if type(message) is Heartbeat:
            watch = self._watching.get(sender)
            if (
                watch is not None
                and message.number == watch.number + 1
                and message.digest == self._ledger.view.digest
                and message.incarnation == watch.alive.incarnation
                and not (watch.is_suspect or watch.is_accused or now > self._due)
            ):
                watch.heard_at, watch.number = now, message.number
                return ()
        self._begin(now)
        if not self._left:
            self._conversation.take(sender, message)
        return self._end()

    def handle_timeout(self, now: float) -> Sequence[MembershipEffect]:
        """Do what has fallen due. The first call starts the machine."""
        self._begin(now)
        if self._pulse.due == FOREVER and not self._left:
            self._pulse.due = now
            self._presence.start()
        if not self._left:
            self._do_due()
        return self._end()

    def meet(self, now: float, contact: Contact) -> Sequence[MembershipEffect]:
        """A node of the mesh was introduced: it can be written to."""
        self._begin(now)
        if not self._left:
            self._presence.meet(contact)
        return self._end()

    def knocked(self, now: float, node_id: str, outcome: KnockOutcome) -> Sequence[MembershipEffect]:
        """What became of a ``Knock``."""
        self._begin(now)
        self._watching.knocked(node_id, outcome)
        return self._end()

    def disconnected(self, now: float, node_id: str) -> Sequence[MembershipEffect]:
        """A connection with that node closed: a hint that it is gone. It is asked at once."""
        self._begin(now)
        if not self._left:
            self._watching.hint(node_id)
        return self._end()

    def heard(self, now: float, node_ids: Iterable[str]) -> Sequence[MembershipEffect]:
        """Other traffic came from these nodes: they live."""
        self._begin(now)
        if not self._left:
            for node_id in node_ids:
                self._watching.heard_otherwise(node_id)
        return self._end()

    def restate(
        self,
        now: float,
        *,
        contact: Contact | None = None,
        record: bytes | None = None,
        certificate: bytes | None = None,
    ) -> Sequence[MembershipEffect]:
        """This node has other addresses, another record or another certificate than before."""
        self._begin(now)
        own = self._ledger.own
        if record is not None:
            self._records.put_own(record)
        check(contact is None or contact.incarnation == own.incarnation, "an incarnation never changes while it lives")
        self._presence.restate(
            version=own.version + 1,
            contact=own.contact if contact is None else contact,
            record_hash=own.record_hash if record is None else record_hash_of(record),
            certificate=own.certificate if certificate is None else certificate,
        )
        return self._end()

    def leave(self, now: float) -> Sequence[MembershipEffect]:
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
        check(view.members[self.own.node_id] == self.own, "the view is of others")
        self._ledger.view = view
        self._watching.follow()
        self._due = min(self._due, self._watching.due)

    # -- the frame of every input ------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        ledger = self._ledger
        if now < ledger.now:  # asked first: to format two floats costs more than most inputs
            check(False, f"time went back from {ledger.now} to {now}")
        ledger.now = now
        ledger.effects = []
        late_s = now - max(self._due, self._forgiven_at)  # what came meanwhile is handed in first: one delay, once
        if late_s > self._watching.pace.interval_s and late_s != FOREVER:
            self._forgiven_at = now
            self._watching.forgive(late_s)
            self._docket.restart()
            self._pulse.due = now

    def _end(self) -> Sequence[MembershipEffect]:
        self._petitions.flush()
        self._records.flush()
        self._rest_due = min(self._petitions.due, self._docket.due, self._presence.due, self._records.due)
        self._due = -FOREVER if self._left else min(self._pulse.due, self._watching.due, self._rest_due)
        return self._ledger.effects

    def _do_due(self) -> None:
        now = self._ledger.now
        if self._watching.due <= now:
            self._watching.handle_timeout()
        if self._rest_due <= now:
            self._do_rest()
        if self._pulse.due <= now:
            self._pulse.beat()

    def _do_rest(self) -> None:
        """What is not due at most beats."""
        now = self._ledger.now
        if self._petitions.due <= now:
            self._petitions.handle_timeout()
        self._petitions.flush()
        if self._docket.due <= now:
            put, drop = self._docket.decide()
            if put or drop:
                self._install(put, drop, "")
        if self._presence.due <= now:
            self._presence.handle_timeout()
        if self._records.due <= now:
            self._records.handle_timeout()

    def _install(self, put: list[Alive], drop: list[Gone], source: str, body: Body | None = None) -> None:
        ledger, before = self._ledger, self._ledger.view
        led_here = ledger.install(put, drop, body)
        self._records.follow(put, drop, source)
        self._docket.review()
        self._watching.follow()
        self._petitions.review()
        self._spread.announce(led_here, before, source)
        own = ledger.member(ledger.own.node_id)
        if own is not None:
            self._presence.seen_in_view(own)
        self._presence.cut_happened(sum(isinstance(gone, Removal) for gone in drop), len(before))
