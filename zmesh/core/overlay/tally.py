"""What a steward has heard of one accused, or of one that wants the name of another."""

from __future__ import annotations

from dataclasses import dataclass, field

from zmesh.core.overlay.statements import Accusation, Alive, Charge

__all__ = ["Rival", "Tally"]


@dataclass(slots=True)
class Tally:
    """What has been said of one accused."""

    alive: Alive
    opened_at: float
    accusations: dict[str, Accusation] = field(default_factory=dict)  # by accuser: who says it twice counts once
    vouched: dict[str, None] = field(default_factory=dict)
    is_refuted: bool = False

    def supporting(self, charge: Charge) -> int:
        """How many accusations that charge rests on: what is lost is not heard either."""
        return self.count(Charge.LOSSY) if charge is Charge.LOSSY else len(self.accusations)

    def count(self, charge: Charge) -> int:
        """How many say just that."""
        return sum(1 for a in self.accusations.values() if a.charge is charge)

    @property
    def is_lossy(self) -> bool:
        """Whether all that is said is that it loses."""
        return all(a.charge is Charge.LOSSY for a in self.accusations.values())


@dataclass(slots=True)
class Rival:
    """A newer incarnation wants the name of a member: is that one alive?"""

    alive: Alive
    until: float
