"""A node's own place in the mesh: getting in, refuting its own end, coming back, and looking for those it lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.member import Contact
from zmesh.core.membership.messages import Hello
from zmesh.core.membership.petitions import Petitions
from zmesh.core.membership.statements import Alive, Charge, Gone, Left, Removal, outlives, signed
from zmesh.core.membership.watch import Watching

__all__ = ["Presence"]

FOREVER: Final = float("inf")
MAX_SEEDS: Final = 16
CUT_SHARE: Final = 0.2  # so many removed at once is a cut, and the other side may have removed us
STEADY_LEAST_S: Final = 5.0
CONTACT_GAP_S: Final = 3.0
MAX_DOUBLINGS: Final = 2


class Presence:
    """This node, as the others shall see it."""

    def __init__(self, ledger: Ledger, petitions: Petitions, watching: Watching) -> None:
        self._ledger = ledger
        self._petitions = petitions
        self._watching = watching
        self._seeds: dict[str, Contact] = {}
        self._informer: str = ""  # who told us that we were removed
        self._returns = 0
        self._wait_s = 0.0
        self._contact_at = -FOREVER
        self._end: Removal | None = None
        self._return_at = FOREVER
        self._hello_at = FOREVER
        self._reunion_at = FOREVER
        self._resign_at = FOREVER
        self.due = FOREVER

    @property
    def is_out(self) -> bool:
        """Whether the others have removed this node, as far as it knows."""
        return self._end is not None

    def meet(self, contact: Contact) -> None:
        """Somebody of the mesh is there: let them let us in, or, if we have others already, let the two views merge."""
        ledger = self._ledger
        is_stranger = contact.node_id not in ledger.view.members
        if is_stranger:
            ledger.meet(contact)  # should it speak before it is a member here, it can be answered
        if len(ledger.view) > 1:
            if is_stranger:
                ledger.send_to(contact, Hello(ledger.own, ledger.view.digest, len(ledger.view)))
            return
        if len(self._seeds) < MAX_SEEDS or contact.node_id in self._seeds:
            self._seeds[contact.node_id] = contact
        self._hello_at = self._ledger.now
        self._settle_due()

    # -- what others hold of us --------------------------------------------------------------------------------------

    def removed(self, gone: Gone, informer: str) -> None:
        """Somebody says that we are gone."""
        ledger, own = self._ledger, self._ledger.own
        if isinstance(gone, Left) or gone.incarnation != own.incarnation:
            return
        self._note_contact()
        if gone.life < own.life:
            ledger.send(informer, Hello(own, ledger.view.digest, 0))
            return
        if self._end is None or gone.life > self._end.life:
            self._end = gone
            self._wait_s = self._penance_s(gone)
            self._return_at = ledger.now + self._wait_s
        self._informer = informer
        self._settle_due()

    def seen_in_view(self, alive: Alive) -> None:
        """A view has us, by this statement of ours: that ends our end, if it outlives it.

        By an earlier one than we make now (we were alone when we made it, and nobody has heard of it): we ask again.
        """
        ledger = self._ledger
        if alive.order < ledger.own.order and len(ledger.view) > 1 and not self.is_out:
            self._petitions.put(ledger.own)
        if alive.order >= self._ledger.own.order and outlives(alive, self._end):
            self._end = None
            self._return_at = FOREVER
            self._settle_due()

    def cut_happened(self, removed: int, size: int) -> None:
        """Many were removed at once, and may have removed us too: state anew that we live, before we meet again."""
        if removed >= max(2, CUT_SHARE * size) and self._resign_at == FOREVER:
            wait_s = self._watching.pace.accuse_after_s
            self._resign_at = self._ledger.now + wait_s * self._ledger.random.uniform(1.5, 2.5)
            self._settle_due()

    def restate(self, **changes: object) -> None:
        """Say something new of ourselves, and ask for it to be in the next view."""
        ledger = self._ledger
        changed: Alive = replace(ledger.own, **changes)  # type: ignore[arg-type]  # replace has no typed form for this
        ledger.own = signed(changed, ledger.notary)
        if len(ledger.view) > 1 and not self.is_out:
            self._petitions.put(ledger.own)

    def _penance_s(self, gone: Removal) -> float:
        """How long to wait before coming back: not at all, unless we were cut off alone, or lose, or come again."""
        ledger = self._ledger
        if ledger.view.is_near:
            return 0.0
        is_lossy = any(a.charge is Charge.LOSSY for a in gone.accusations)
        was_steady = ledger.now - self._watching.steady_since >= STEADY_LEAST_S
        if self._returns == 0 and was_steady and not is_lossy:
            return 0.0
        return float(ledger.settings.steady_s * 2.0 ** min(self._returns, MAX_DOUBLINGS))

    def _note_contact(self) -> None:
        now = self._ledger.now
        if now - self._contact_at > CONTACT_GAP_S and self._end is not None and self._return_at < FOREVER:
            self._return_at = now + self._wait_s  # it must be in contact all the time
        self._contact_at = now

    # -- time --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look for others."""
        self._hello_at = self._ledger.now
        self._reunion_at = self._ledger.now + self._ledger.settings.reunion_interval_s * self._ledger.random.random()
        self._settle_due()

    def handle_timeout(self) -> None:
        """Do what has fallen due."""
        now, settings = self._ledger.now, self._ledger.settings
        if self._resign_at <= now:
            self._resign_at = FOREVER
            self.restate(life=self._ledger.own.life + 1)
        if self._return_at <= now:
            self._return()
        if self._hello_at <= now:
            self._hello_at = now + settings.hello_interval_s if self._ask_to_get_in() else FOREVER
        if self._reunion_at <= now:
            self._reunion_at = now + settings.reunion_interval_s * self._ledger.random.uniform(0.75, 1.25)
            self._look_for_lost()
        self._settle_due()

    def _return(self) -> None:
        end, self._return_at = self._end, FOREVER
        if self._ledger.now - self._contact_at > CONTACT_GAP_S:
            self._return_at = self._ledger.now + self._wait_s
        elif end is not None:
            self._returns += 1
            ledger = self._ledger
            ledger.own = signed(replace(ledger.own, life=max(end.life, ledger.own.life) + 1), ledger.notary)
            self._hello_at = ledger.now

    def _ask_to_get_in(self) -> bool:
        """Say hello to whoever may let us in; whether to go on with that."""
        ledger = self._ledger
        hello = Hello(ledger.own, ledger.view.digest, 0)
        is_alone = len(ledger.view) == 1
        if self._end is not None:
            ledger.send(self._informer, hello)
            ledger.send(
                ledger.random.choice(
                    [name for name in (*ledger.view.members, *ledger.lost) if name != ledger.own.node_id] or [""]
                ),
                hello,
            )
        if is_alone:
            for contact in self._seeds.values():
                ledger.send_to(contact, hello)
        return self._end is not None or (is_alone and bool(self._seeds))

    def _look_for_lost(self) -> None:
        """Try one of the lost: all together often enough, each seldom."""
        ledger = self._ledger
        ledger.forget_gone()
        chance = 2.0 * len(ledger.lost) / len(ledger.view)
        if ledger.lost and not self.is_out and ledger.random.random() < chance:
            lost = ledger.lost[ledger.random.choice(list(ledger.lost))]
            ledger.send_to(lost.contact, Hello(ledger.own, ledger.view.digest, len(ledger.view)))

    def _settle_due(self) -> None:
        if self._end is not None:
            self._hello_at = min(self._hello_at, self._ledger.now + self._ledger.settings.hello_interval_s)
        self.due = min(self._return_at, self._hello_at, self._reunion_at, self._resign_at)
