"""A node's own heartbeats: to all neighbours each interval, and four times as often while it stands accused."""

from __future__ import annotations

from typing import Final

from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.messages import Heartbeat, SendAll, Vouch
from zmesh.core.membership.presence import Presence
from zmesh.core.membership.watch import Watching

__all__ = ["Pulse"]

FOREVER: Final = float("inf")
FIGHT_S: Final = 2.0  # an accused node speaks more often for so long
FIGHT_RATE: Final = 4.0
JITTER: Final = 0.1  # of the interval


class Pulse:
    """When the next heartbeat leaves, and what goes with it."""

    def __init__(self, ledger: Ledger, watching: Watching, presence: Presence) -> None:
        self._ledger = ledger
        self._watching = watching
        self._presence = presence
        self._number = 0
        self._fight_until = -FOREVER
        self._vouches: dict[str, Vouch] = {}  # for stewards, while we stand accused
        self.due = FOREVER

    def fight(self, steward: str, vouch: Vouch) -> None:
        """We stand accused: for a while, speak more often to all, and to the steward."""
        self._vouches[steward] = vouch
        self._fight_until = self._ledger.now + FIGHT_S
        self.due = self._ledger.now

    def beat(self) -> None:
        """Say that we live."""
        ledger, watching = self._ledger, self._watching
        self._number += 1
        if watching.contacts and not self._presence.is_out:
            heartbeat = Heartbeat(ledger.own.incarnation, self._number, ledger.view.digest)
            ledger.effects.append(SendAll(watching.contacts, heartbeat))
        for steward, vouch in self._vouches.items():
            ledger.send(steward, vouch)
        watching.relax()
        interval_s = watching.pace.interval_s
        if self._fight_until > ledger.now:
            interval_s /= FIGHT_RATE
        else:
            self._vouches.clear()
        self.due = ledger.now + interval_s * (1.0 - JITTER * ledger.random.random())
