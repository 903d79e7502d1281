"""What a steward has heard of one accused, or of one that wants the name of another."""

from __future__ import annotations

from dataclasses import dataclass, field

from zmesh.core.membership.statements import Accusation, Alive, Charge

__all__ = ["Rival", "Tally"]


@dataclass(slots=True)
class Tally:
    """What has been said of one accused."""

    alive: Alive
    opened_at: float
    accusations: dict[str, Accusation] = field(default_factory=dict)  # by accuser: who says it twice counts once
    vouched: dict[str, None] = field(default_factory=dict)
    is_refuted: bool = False

    def count(self, charge: Charge) -> int:
        """How many say just that."""
        return sum(1 for a in self.accusations.values() if a.charge is charge)

    @property
    def is_lossy(self) -> bool:
        """Whether what is said is that it loses, more than that it is silent."""
        return 2 * self.count(Charge.LOSSY) >= len(self.accusations)


@dataclass(slots=True)
class Rival:
    """A newer incarnation wants the name of a member: is that one alive?"""

    alive: Alive
    until: float
