"""What one node holds to be true: its view, the ends it knows of, and itself. Views are installed here alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from zmesh.core.membership.member import Contact, MemberEventKind
from zmesh.core.membership.messages import Body, MembershipEffect, MembershipMessage, NotifyMember, ReportIncident, Send
from zmesh.core.membership.settings import MembershipSettings
from zmesh.core.membership.statements import Accusation, Alive, Gone, Left, Notary, Removal, Statement, outlives
from zmesh.core.membership.view import View, ViewStore

if TYPE_CHECKING:
    import random

__all__ = ["MAX_MEMBERS", "Ledger"]

MAX_MEMBERS = 16_384  # what liars among the members can make us hold is bounded
MAX_STRANGERS = 256
HISTORY = 8  # views: a node that missed so many is given all members anew


class Ledger:
    """The state that the parts of the machine share, and the effects of the present input."""

    def __init__(
        self, own: Alive, settings: MembershipSettings, notary: Notary, store: ViewStore, random: random.Random
    ) -> None:
        self.own = own
        self.settings = settings
        self.notary = notary
        self.random = random
        self.view = store.changed(None, [own], [])
        self.gone: dict[str, Gone] = {}
        self.gone_at: dict[str, float] = {}
        self.lost: dict[str, Alive] = {}  # those removed, who may come back
        self.strangers: dict[str, Contact] = {}  # those met, who are in no view of ours
        self.installed_at: deque[float] = deque(maxlen=HISTORY)
        self.views = 0  # installed since the start
        self.now = float("-inf")
        self.effects: list[MembershipEffect] = []
        self._store = store
        self._history: dict[int, View] = {}
        self._left_at: dict[int, float] = {}  # since when each of those is the view no more
        self._bodies: dict[int, Body] = {}

    # -- questions ---------------------------------------------------------------------------------------------------

    def member(self, node_id: str) -> Alive | None:
        """The member of that name."""
        return self.view.members.get(node_id)

    def knows(self, digest: int) -> bool:
        """Whether that is the view here, or one of the last before it."""
        return digest == self.view.digest or digest in self._history

    def age_of(self, digest: int) -> float:
        """How long ago that view was the one here, which it may have been more than once; 0 for one not remembered."""
        return self.now - self._left_at.get(digest, self.now)

    def is_news(self, alive: Alive) -> bool:
        """Whether this statement of life would change the view."""
        current = self.view.members.get(alive.node_id)
        is_newer = current is None or alive.order > current.order
        return is_newer and outlives(alive, self.gone.get(alive.node_id))

    def is_in_force(self, node_id: str, incarnation: int, life: int) -> bool:
        """Whether the member of that name is in that life."""
        current = self.view.members.get(node_id)
        return current is not None and current.incarnation == incarnation and current.life == life

    def is_observer(self, accuser: str, node_id: str) -> bool:
        """Whether ``accuser`` watches the node: nobody else may accuse it."""
        return accuser in self.view.neighbours(node_id)

    def was_observer(self, accuser: str, node_id: str) -> bool:
        """The same for the last views."""
        return any(node_id in v.members and accuser in v.neighbours(node_id) for v in self._history.values())

    def refuses(self, contact: Contact) -> str:
        """Why a node that calls itself this may not be introduced, "" if it may."""
        node_id, incarnation = contact.node_id, contact.incarnation
        if node_id == self.own.node_id:
            return "self" if incarnation == self.own.incarnation else "duplicate_name"
        member, gone = self.member(node_id), self.gone.get(node_id)
        is_over = isinstance(gone, Left) and incarnation == gone.incarnation
        is_older = incarnation < max(known.incarnation for known in (member, gone, contact) if known is not None)
        return "superseded" if is_over or is_older else ""

    def verifies(self, statement: Statement) -> bool:
        """Whether its author signed it."""
        author = statement if isinstance(statement, Alive) else self._author_of(statement)
        return author is not None and self.notary.verify(author, statement)

    def quorum(self, node_id: str) -> int:
        """How many observers must accuse it, whatever the others say."""
        return 1 if self.view.is_near else min(self.settings.quorum, len(self.view.neighbours(node_id)))

    def is_proved(self, gone: Gone) -> bool:
        """Whether the evidence for this end is good."""
        if isinstance(gone, Left):
            return self.verifies(gone)
        accusers = {a.accuser for a in gone.accusations if self._counts(a, gone)}
        return len(accusers) >= self.quorum(gone.node_id)

    def batch_wait_s(self) -> float:
        """How long changes wait for company: four times longer with each view of late."""
        if self.view.is_near:
            return self.settings.batch_s  # a view costs little there
        recent = sum(1 for at in self.installed_at if at > self.now - 10.0)
        wait: float = self.settings.batch_s * 4.0**recent
        return min(wait, self.settings.batch_max_s)

    def _counts(self, accusation: Accusation, gone: Removal) -> bool:
        is_about = (accusation.node_id, accusation.incarnation, accusation.life) == (
            gone.node_id,
            gone.incarnation,
            gone.life,
        )
        accuser, node_id = accusation.accuser, gone.node_id
        may_accuse = self.is_observer(accuser, node_id) or self.was_observer(accuser, node_id)
        return is_about and may_accuse and self.verifies(accusation)

    def _author_of(self, statement: Accusation | Left) -> Alive | None:
        name = statement.accuser if isinstance(statement, Accusation) else statement.node_id
        return self.view.members.get(name)

    # -- what leads from one view to another -------------------------------------------------------------------------

    def body_from(self, digest: int) -> Body:
        """What somebody with that view lacks."""
        body = self._bodies.get(digest)
        if body is None:
            body = self._bodies[digest] = self._difference(digest)
        return body

    def _difference(self, digest: int) -> Body:
        old = self._history.get(digest)
        if old is None:
            return Body(0, self.view.digest, tuple(self.view.members.values()), tuple(self.gone.values()))
        before, after = old.members, self.view.members
        put = tuple(alive for node_id, alive in after.items() if before.get(node_id) is not alive)
        drop = tuple(self.gone[node_id] for node_id in before if node_id not in after and node_id in self.gone)
        return Body(digest, self.view.digest, put, drop)

    def install(self, put: list[Alive], drop: list[Gone], body: Body | None = None) -> Body:
        """Go over to the next view, tell of the changes, and return what led there."""
        old = self.view
        self.bury(drop)
        new = self._store.changed(old, put, [gone.node_id for gone in drop])
        self._tell_changes(old, put, drop)
        self._remember(old)
        self._history.pop(new.digest, None)
        self._left_at.pop(new.digest, None)
        self.view = new
        self.views += 1
        self.installed_at.append(self.now)
        if body is None or (body.base, body.digest) != (old.digest, new.digest):
            body = Body(old.digest, new.digest, tuple(put), tuple(drop))
        self._bodies = {old.digest: body}
        return body

    def _remember(self, old: View) -> None:
        self._history[old.digest] = old
        self._left_at[old.digest] = self.now
        if len(self._history) > HISTORY:
            oldest = next(iter(self._history))
            del self._history[oldest], self._left_at[oldest]

    def bury(self, ended: Iterable[Gone]) -> None:
        """Remember these ends, so that nobody is revived by an old statement."""
        for gone in ended:
            self.gone[gone.node_id] = gone
            self.gone_at[gone.node_id] = self.now

    def forget_gone(self) -> None:
        """Drop the memory of those that went long ago; the oldest come first."""
        for node_id, at in list(self.gone_at.items()):
            if self.now - at >= self.settings.forget_after_s or len(self.gone) > MAX_MEMBERS:
                del self.gone[node_id], self.gone_at[node_id]
                self.lost.pop(node_id, None)

    def _tell_changes(self, old: View, put: list[Alive], drop: list[Gone]) -> None:
        for gone in drop:
            kind = MemberEventKind.LEFT if isinstance(gone, Left) else MemberEventKind.DIED
            reason = (
                "it said goodbye" if isinstance(gone, Left) else f"{len(gone.accusations)} observers do not hear it"
            )
            before = old.members[gone.node_id]
            if kind is MemberEventKind.DIED:
                self.lost[gone.node_id] = before
            self.effects.append(NotifyMember(kind, before, reason))
        for alive in put:
            self.lost.pop(alive.node_id, None)
            kind_of_put = self._kind_of(old.members.get(alive.node_id), alive)
            if kind_of_put is not None and alive.node_id != self.own.node_id:
                self.effects.append(NotifyMember(kind_of_put, alive))

    def _kind_of(self, before: Alive | None, after: Alive) -> MemberEventKind | None:
        if before is None:
            gone = self.gone.get(after.node_id)
            is_same = gone is not None and gone.incarnation == after.incarnation
            return MemberEventKind.RECOVERED if is_same else MemberEventKind.JOINED
        if before.incarnation != after.incarnation:
            return MemberEventKind.RESTARTED
        return MemberEventKind.CHANGED if before.version != after.version else None

    # -- effects -----------------------------------------------------------------------------------------------------

    def contact_of(self, node_id: str) -> Contact | None:
        """Where a node is, if that is known."""
        alive = self.view.members.get(node_id) or self.lost.get(node_id)
        return alive.contact if alive is not None else self.strangers.get(node_id)

    def send(self, node_id: str, message: MembershipMessage) -> None:
        """Send to a node, if it is known where it is."""
        contact = self.contact_of(node_id)
        if contact is not None:
            self.effects.append(Send(contact, message))

    def meet(self, contact: Contact) -> None:
        """Remember where a stranger is, for an answer."""
        self.strangers.pop(contact.node_id, None)
        while len(self.strangers) >= MAX_STRANGERS:
            del self.strangers[next(iter(self.strangers))]
        self.strangers[contact.node_id] = contact

    def send_to(self, contact: Contact, message: MembershipMessage) -> None:
        """Send to anybody."""
        self.effects.append(Send(contact, message))

    def report(self, kind: str, source: str, reason: str) -> None:
        """Tell the operator."""
        self.effects.append(ReportIncident(kind, source, reason))
