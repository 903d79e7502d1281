"""What of another node's view is taken over: what is news, signed and proved. The rest is answered."""

from __future__ import annotations

from typing import Final

from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.messages import Body, Refusal
from zmesh.core.membership.presence import Presence
from zmesh.core.membership.restraint import Restraint
from zmesh.core.membership.statements import Alive, Gone, Removal, outlives
from zmesh.core.membership.watch import Watching

__all__ = ["Merge"]

TELL_INTERVAL_S: Final = 1.0


class Merge:
    """Judges bodies."""

    def __init__(self, ledger: Ledger, watching: Watching, presence: Presence) -> None:
        self._ledger = ledger
        self._watching = watching
        self._presence = presence
        self._telling = Restraint(TELL_INTERVAL_S)

    def sift_alive(self, body: Body) -> tuple[list[Alive], list[Gone]]:
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
                self.meet_namesake(alive)
            elif ledger.verifies(alive):
                put.append(alive)
        return put, refuted

    def sift_gone(self, sender: str, body: Body, put: list[Alive]) -> list[Gone]:
        """Those ends that are news and proved. Of the others, whoever is said to be gone is told, and may refute."""
        returning = {alive.node_id: alive for alive in put}
        ledger = self._ledger
        drop: list[Gone] = []
        for gone in body.gone:
            node_id = gone.node_id
            if node_id == ledger.own.node_id:
                self._presence.removed(gone, sender)
                continue
            member = ledger.member(node_id)
            if member is None or outlives(member, gone):
                if member is None and node_id not in ledger.gone and len(ledger.view) == 1:
                    ledger.bury([gone])  # who joins cannot check it, and believes whoever lets it in
            elif self._believes(gone):
                if not self._has_returned(returning, gone):
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

    def tell_gone(self, sender: str) -> None:
        """To one who does not know that it was removed."""
        ledger = self._ledger
        gone = ledger.gone.get(sender)
        if gone is not None and self._telling.allows(sender, ledger.now):
            ledger.send(sender, Body(0, 0, (), (gone,)))

    def meet_namesake(self, alive: Alive) -> None:
        """Somebody else has our name."""
        ledger = self._ledger
        own = ledger.own
        if alive.incarnation != own.incarnation:
            ledger.send_to(alive.contact, Refusal("duplicate_name", own.incarnation))
            reason = f"another running node calls itself {own.node_id} too: rename one of them"
            ledger.report("duplicate_name", own.node_id, reason)
