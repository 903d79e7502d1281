"""What the passing of time does: heartbeats, suspicion, death, forgetting; and doubt when this node itself was late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmesh.core.membership.approach import Approach
from zmesh.core.membership.exchange import Exchange
from zmesh.core.membership.member import Member, MembershipTimings, Status
from zmesh.core.membership.roster import Roster

if TYPE_CHECKING:
    import random

__all__ = ["Pulse"]


class Pulse:
    """The timers of the membership machine."""

    def __init__(
        self,
        roster: Roster,
        timings: MembershipTimings,
        approach: Approach,
        exchange: Exchange,
        random: random.Random,
    ) -> None:
        self._roster = roster
        self._timings = timings
        self._approach = approach
        self._exchange = exchange
        self._random = random

    def next_deadline(self) -> float | None:
        """When something falls due; None before the first heartbeat."""
        if self._roster.beat_at is None:
            return None
        deadlines = [self._roster.beat_at]
        for member in self._roster:
            if member.status is Status.ALIVE:
                deadlines.append(member.suspect_at(self._timings))
            elif member.status is Status.SUSPECT:
                deadlines.append(member.dead_at(self._timings))
            if member.redial_at is not None:
                deadlines.append(member.redial_at)
        return min(deadlines)

    def handle_timeout(self) -> None:
        """Do what has fallen due."""
        for member in self._roster:
            self._review(member)
        if self._roster.beat_at is None or self._roster.beat_at <= self._roster.now:
            self.beat()

    def doubt_self(self, late: float) -> None:
        """We did not run for ``late`` seconds. That was not the others' silence: give it back to them.

        After a real pause others may have given us up and stopped their heartbeats; they need time to hear of us.
        """
        for member in self._roster:
            member.heard_at += late
            if member.hinted_at is not None:
                member.hinted_at += late
            if late >= self._timings.suspect_after_s:
                member.heard_at = max(member.heard_at, self._roster.now - self._timings.suspect_after_s)
                member.hinted_at = None
        self._roster.beat_at = self._roster.now

    def beat(self) -> None:
        """Send a heartbeat to everybody who is not known to be gone."""
        roster = self._roster
        for member in roster:
            if member.status is not Status.DEAD:
                must_answer = member.status is not Status.ALIVE or member.hinted_at is not None
                roster.send(member, roster.heartbeat(answer=must_answer))
                if member.link is not None:
                    self._exchange.fetch(member)
        roster.beaten_at = roster.now
        # Spread, so that the nodes of a mesh started by one script do not all speak at the same moment.
        roster.beat_at = roster.now + self._timings.heartbeat_interval_s * self._random.uniform(0.9, 1.0)

    def _review(self, member: Member) -> None:
        now = self._roster.now
        if member.status is Status.ALIVE and member.suspect_at(self._timings) <= now:
            self._roster.become_suspect(member)
        if member.status is Status.SUSPECT and member.dead_at(self._timings) <= now:
            self._roster.become_dead(member)
            self._approach.schedule_redial(member)
        if self._is_over(member):
            self._roster.forget(member)
        elif member.redial_at is not None and member.redial_at <= now:
            self._approach.redial(member)

    def _is_over(self, member: Member) -> bool:
        since = member.mentioned_at if member.status is Status.UNSEEN else member.status_since
        return not member.is_live and self._roster.now - since >= self._timings.forget_after_s
