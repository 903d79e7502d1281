"""A node's own heartbeats, and how it speaks up when it stands accused."""

from __future__ import annotations

from typing import Final

from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.messages import Heartbeat, Vouch
from zmesh.core.membership.presence import Presence
from zmesh.core.membership.watch import Watching

__all__ = ["Pulse"]

FOREVER: Final = float("inf")
FIGHT_S: Final = 2.0  # an accused node speaks more often for so long
FIGHT_RATE: Final = 4.0


class Pulse:
    """Heartbeats to all neighbours, one each interval less up to a tenth at random."""

    def __init__(self, ledger: Ledger, watching: Watching, presence: Presence) -> None:
        self._ledger = ledger
        self._watching = watching
        self._presence = presence
        self._number = 0
        self._fight_until = -FOREVER
        self._vouches: dict[str, Vouch] = {}  # for stewards, while we stand accused
        self.due = FOREVER

    def beat(self) -> None:
        """Tell all neighbours, unless the others have removed this node."""
        ledger = self._ledger
        self._number += 1
        heartbeat = Heartbeat(ledger.own.incarnation, self._number, ledger.view.digest)
        if not self._presence.is_out:
            for watch in self._watching:
                ledger.send_to(watch.alive.contact, heartbeat)
        for steward, vouch in self._vouches.items():
            ledger.send(steward, vouch)
        self._watching.relax()
        interval_s = self._watching.pace.interval_s
        if self._fight_until > ledger.now:
            interval_s /= FIGHT_RATE
        else:
            self._vouches.clear()
        self.due = ledger.now + interval_s * ledger.random.uniform(0.9, 1.0)

    def fight(self, steward: str, vouch: Vouch) -> None:
        """We stand accused: for a while, speak more often to all, and to the steward."""
        self._vouches[steward] = vouch
        self._fight_until = self._ledger.now + FIGHT_S
        self.due = self._ledger.now
