"""An observer's eyes: when it last heard each of those it watches, how much is lost, and when that is worth a charge.

After Lifeguard, an observer doubts itself before it doubts others: it is the more patient the more often it was wrong
of late, and when most of its own neighbours fall silent at once. Other than Lifeguard, it also asks the kernel: a bare
TCP connection tells a stopped process from a dead one and from a dead machine, which no message to the process can.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.member import Contact, MemberEventKind
from zmesh.core.membership.messages import Heartbeat, Knock, KnockOutcome, NotifyMember
from zmesh.core.membership.neighbour import LOSSY_SHARE, Watch
from zmesh.core.membership.petitions import Petitions
from zmesh.core.membership.settings import Pace
from zmesh.core.membership.statements import Alive, Charge, Left

__all__ = ["Watching"]

SOUND_SHARE: Final = 0.25
MAX_DOUBT: Final = 4
DOUBTERS: Final = 4  # of fewer neighbours, half being silent is no sign that it is us
FOREVER: Final = float("inf")


class Watching:
    """All neighbours."""

    def __init__(self, ledger: Ledger, petitions: Petitions) -> None:
        self._ledger = ledger
        self._petitions = petitions
        self._watches: dict[str, Watch] = {}
        self.pace = self._pace()
        self.contacts: tuple[Contact, ...] = ()  # of all neighbours
        self.doubt = 0
        self.steady_since = FOREVER  # since when most neighbours are heard
        self.due = FOREVER

    def get(self, node_id: str) -> Watch | None:
        """The watch kept on that neighbour."""
        return self._watches.get(node_id)

    def __iter__(self) -> Iterator[Watch]:
        return iter(self._watches.values())

    def __len__(self) -> int:
        return len(self._watches)

    def _pace(self) -> Pace:
        """How patient to be in a mesh of this size."""
        settings = self._ledger.settings
        return settings.near if self._ledger.view.is_near else settings.wide

    def follow(self) -> None:
        """The view changed: watch those whom it says."""
        ledger, before = self._ledger, self._watches
        self._watches = {}
        self.pace = self._pace()
        for node_id in ledger.view.neighbours(ledger.own.node_id):
            alive = ledger.view.members[node_id]
            watch = before.get(node_id)
            if watch is None or watch.alive.incarnation != alive.incarnation:
                watch = Watch(alive, ledger.now)
            elif watch.alive.life != alive.life:
                self._refuted(watch)
            watch.alive = alive
            self._watches[node_id] = watch
        for node_id, watch in before.items():
            member = ledger.view.members.get(node_id)
            if node_id not in self._watches and member is not None:
                self._clear(watch, member, "others watch it now")
        self.contacts = tuple(watch.alive.contact for watch in self)
        self.due = min(self.due, self._next_due(self._count_silent()))

    def forgive(self, late_s: float) -> None:
        """We did not run for so long: that was not the others' silence."""
        now = self._ledger.now
        for watch in self._watches.values():
            is_long = late_s >= self.pace.suspect_after_s
            watch.heard_at = now if is_long else min(now, watch.heard_at + late_s)
            watch.is_hinted = False
        self.doubt = min(self.doubt + 1, MAX_DOUBT)

    # -- signs -------------------------------------------------------------------------------------------------------

    def heard(self, watch: Watch) -> None:
        """Something came from it."""
        watch.heard_at = self._ledger.now
        watch.is_hinted = False
        watch.kernel = None
        watch.is_suspect = False
        self._clear(watch, watch.alive, "heard of again")
        if watch.is_accused and not watch.is_lossy:
            watch.is_accused = False
            self._petitions.withdraw(watch.alive.node_id)
            self.doubt = min(self.doubt + 1, MAX_DOUBT)

    def heard_otherwise(self, node_id: str) -> None:
        """Other traffic came from it, which may have been read long after it was sent.

        So it counts for nothing once a connection has closed, unless the kernel there says that the process lives on.
        """
        watch = self._watches.get(node_id)
        if watch is None or watch.kernel is KnockOutcome.REFUSED or (watch.is_hinted and watch.kernel is None):
            return
        self.heard(watch)

    def _clear(self, watch: Watch, member: Alive, reason: str) -> None:
        """Whoever was told that it is suspected, and would wait in vain for a word of ours, learns that it is not."""
        if watch.is_told:
            watch.is_told = False
            self._ledger.effects.append(NotifyMember(MemberEventKind.RECOVERED, member, reason))

    def hint(self, node_id: str) -> None:
        """A connection with it closed."""
        watch = self._watches.get(node_id)
        if watch is not None and not watch.is_hinted and not watch.is_accused:
            watch.is_hinted = True
            watch.kernel = None
            self.ask(watch)

    def dismiss(self, left: Left) -> None:
        """It has said goodbye: that it falls silent means nothing."""
        watch = self._watches.get(left.node_id)
        if watch is not None and watch.alive.incarnation == left.incarnation:
            watch.is_accused = True

    def knocked(self, node_id: str, outcome: KnockOutcome) -> None:
        """The kernel there answered, or did not."""
        watch = self._watches.get(node_id)
        if watch is not None and (watch.is_suspect or watch.is_hinted):
            watch.kernel = outcome
            self.due = self._ledger.now

    def hears(self, node_id: str) -> bool:
        """Whether there is no doubt about it."""
        watch = self._watches.get(node_id)
        if watch is None or watch.is_suspect or watch.is_hinted or watch.is_accused:
            return False
        return self._ledger.now - watch.heard_at <= 1.3 * self.pace.interval_s

    def ask(self, watch: Watch) -> None:
        """Ask for an answer, the process and its kernel."""
        ledger = self._ledger
        ledger.send_to(watch.alive.contact, Heartbeat(ledger.own.incarnation, -1, ledger.view.digest, True))
        ledger.effects.append(Knock(watch.alive.contact))

    def confirm(self, node_id: str) -> None:
        """A steward asks, and it has not been heard: whoever is suspected by others is given less time here."""
        watch = self._watches.get(node_id)
        if watch is not None and not watch.is_accused:
            if not watch.is_suspect:
                self._suspect(watch)
            now = self._ledger.now
            is_overdue = now - watch.heard_at > self.pace.suspect_after_s - self.pace.interval_s / 2
            if is_overdue and watch.kernel is not KnockOutcome.OPEN:
                watch.heard_at = min(
                    watch.heard_at, now - self.pace.accuse_after_s + self._ledger.settings.knock_wait_s
                )
            self.due = now

    # -- time --------------------------------------------------------------------------------------------------------

    def handle_timeout(self) -> None:
        """See who has been silent for too long."""
        silent = self._count_silent()
        patience = self._patience(silent)
        for watch in list(self._watches.values()):
            self._review(watch, patience)
        self.due = self._next_due(silent)

    def relax(self) -> None:
        """Once a heartbeat: trust oneself again, if all are heard; and see how steady the contact is."""
        quiet_due = self._quiet_due()
        silent = self._count_silent() if quiet_due is None else 0
        if silent == 0 and self.doubt:
            self.doubt -= 1
        if not self._watches or 2 * silent > len(self._watches):
            self.steady_since = FOREVER
        elif self.steady_since == FOREVER:
            self.steady_since = self._ledger.now
        if not self._ledger.view.is_near:  # else one accuser may be enough, and losses are no reason to believe one
            self._review_losses()
        self.due = self._next_due(silent) if quiet_due is None else quiet_due

    def _quiet_due(self) -> float | None:
        """What is due where nobody is silent or under suspicion, as nearly always; else None."""
        heard_at = [w.heard_at for w in self._watches.values() if not (w.is_suspect or w.is_accused)]
        if not heard_at or len(heard_at) < len(self._watches):
            return None
        due = min(heard_at) + self.pace.suspect_after_s
        return due if due >= self._ledger.now else None

    def _count_silent(self) -> int:
        before = self._ledger.now - self.pace.suspect_after_s
        return sum(1 for watch in self._watches.values() if watch.heard_at < before)

    def _patience(self, silent: int) -> float:
        patience = 1.0 + 0.25 * self.doubt
        if len(self._watches) >= DOUBTERS and 2 * silent > len(self._watches):
            patience *= 2.0
        return patience

    def _accuse_at(self, watch: Watch, patience: float) -> float:
        if watch.kernel is KnockOutcome.REFUSED:
            return self._ledger.now
        if watch.kernel is KnockOutcome.OPEN:
            return watch.heard_at + max(self._ledger.settings.frozen_after_s, self.pace.accuse_after_s) * patience
        if watch.has_gaps:
            patience *= 2.0  # it is more likely lost than not sent; if that goes on, it is lossy
        return watch.heard_at + self.pace.accuse_after_s * patience

    def _review(self, watch: Watch, patience: float) -> None:
        now = self._ledger.now
        if not watch.is_suspect and watch.heard_at + self.pace.suspect_after_s <= now:
            self._suspect(watch)
        is_asked = watch.is_suspect or watch.is_hinted
        if is_asked and not watch.is_accused and self._accuse_at(watch, patience) <= now:
            self._accuse(watch, Charge.ENDED if watch.kernel is KnockOutcome.REFUSED else Charge.SILENT)

    def _suspect(self, watch: Watch) -> None:
        watch.is_suspect = True
        if self._ledger.view.is_near:
            self._tell(watch)
        self.ask(watch)

    def _tell(self, watch: Watch) -> None:
        """Where heartbeats are few, one that is lost is nothing to speak of: there only accusations are told."""
        if not watch.is_told:
            watch.is_told = True
            reason = f"silent for {self._ledger.now - watch.heard_at:.1f} s"
            self._ledger.effects.append(NotifyMember(MemberEventKind.SUSPECTED, watch.alive, reason))

    def _accuse(self, watch: Watch, charge: Charge) -> None:
        watch.is_accused = True
        if charge is not Charge.LOSSY:
            self._tell(watch)
        self._petitions.accuse(watch.alive, charge)

    def _refuted(self, watch: Watch) -> None:
        """It states that it lives, in another life: what was held against it is void."""
        if watch.is_accused and not watch.is_lossy:
            self.doubt = min(self.doubt + 1, MAX_DOUBT)
        watch.is_accused = watch.is_lossy = watch.is_suspect = watch.is_hinted = False
        self._clear(watch, watch.alive, "it states that it lives")
        watch.heard_at = self._ledger.now
        watch.count_anew()

    def _review_losses(self) -> None:
        lossy = [watch for watch in self._watches.values() if watch.lost_share >= LOSSY_SHARE]
        if 2 * len(lossy) > len(self._watches) >= DOUBTERS:
            return  # it is our own line
        for watch in self._watches.values():
            if watch.is_lossy and watch.lost_share <= SOUND_SHARE:
                watch.is_lossy = watch.is_accused = False
                self._petitions.withdraw(watch.alive.node_id)
        for watch in lossy:
            if not watch.is_lossy:
                watch.is_lossy = True
                self._accuse(watch, Charge.LOSSY)

    def _next_due(self, silent: int) -> float:
        patience, suspect_after_s = self._patience(silent), self.pace.suspect_after_s
        due = FOREVER
        for watch in self._watches.values():
            if watch.is_accused:
                continue
            at = self._accuse_at(watch, patience) if watch.is_suspect else watch.heard_at + suspect_after_s
            due = min(due, at)
        return due
