"""The overlay machine with SWIM's suspicion in place of its own: what the rest of the rules are worth.

One observer's accusation is enough unless the accused refutes it in time. Nobody else is heard, no kernel is asked, and
nobody doubts itself. All timers are the same.
"""

from __future__ import annotations

from dataclasses import replace

from _swarm import GossipOnly

from zmesh.core.membership.messages import KnockOutcome
from zmesh.core.membership.settings import MembershipSettings
from zmesh.core.membership.watch import Watching

__all__ = ["PlainSwim", "plain_settings"]


class _PlainWatching(Watching):
    def knocked(self, node_id: str, outcome: KnockOutcome) -> None:
        """Nothing is made of it."""

    def forgive(self, late_s: float) -> None:
        """One's own pause counts as the others' silence."""

    def _patience(self, silent: int) -> float:
        return 1.0


class PlainSwim(GossipOnly):
    """See the module."""

    watching_type = _PlainWatching


def plain_settings(settings: MembershipSettings) -> MembershipSettings:
    """One accuser is enough, whatever the others say."""
    return replace(settings, quorum=1, agreement=0.0)
