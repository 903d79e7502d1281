"""What must never happen, and how a simulation says that it did.

A checker sees every observation that processes report, and, if it asks for that, every step. It says what is wrong by
``world.fail``; the world raises, with the time and the host. Checkers are plain Python with knowledge that no process
has: who is really alive, what was really sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zmesh.testing.host import Host
    from zmesh.testing.world import World

__all__ = ["Checker", "LivenessFailure", "SafetyViolation", "SimulationFailure"]


class SimulationFailure(AssertionError):
    """A property does not hold. ``at`` is simulated time in seconds."""

    kind = "failure"

    def __init__(self, what: str, *, at: float, host: str = "") -> None:
        self.what, self.at, self.host = what, at, host
        where = f" at {host}" if host else ""
        super().__init__(f"{self.kind}, {at:.6f} s{where}: {what}")


class SafetyViolation(SimulationFailure):
    """Something happened that must never happen."""

    kind = "safety violation"


class LivenessFailure(SimulationFailure):
    """All faults were healed, and what must happen then did not, within its bound."""

    kind = "liveness failure"


class Checker:
    """Override what you need; what is not overridden costs nothing."""

    def __init__(self, world: World) -> None:
        self.world = world

    def observed(self, host: Host, observation: Any) -> None:
        """A process reported something."""

    def stepped(self) -> None:
        """An event has been worked off."""
