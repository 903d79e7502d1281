"""How patient a node is, by preset: each trades the speed of detection against false deaths (docs/design/03)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from zmesh.errors import ConfigurationError

__all__ = ["PRESETS", "MembershipSettings", "Pace"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often heartbeats leave, and what is made of their absence. Seconds, counted from the last sign of life."""

    interval_s: float
    suspect_after_s: float  # then it is asked, and its kernel too
    accuse_after_s: float  # then the stewards are told

    def __post_init__(self) -> None:
        if not 0 < self.interval_s < self.suspect_after_s < self.accuse_after_s:
            raise ConfigurationError(f"a pace must hold interval_s < suspect_after_s < accuse_after_s, not {self}")


@dataclass(frozen=True, slots=True)
class MembershipSettings:
    """What all nodes of a mesh share. The defaults are the preset ``lan``."""

    near: Pace = Pace(0.25, 1.0, 2.0)  # up to ``near_size`` members: everyone watches everyone
    wide: Pace = Pace(1.0, 1.7, 2.4)  # above: each watches about eight
    near_size: int = 32
    quorum: int = 3  # observers that must agree in a wide mesh, so that two bad nodes evict nobody
    agreement: float = 0.75  # of the observers that answer a steward
    frozen_after_s: float = 8.0  # silent, but its kernel answers: it is given that long in place of accuse_after_s
    knock_wait_s: float = 0.6  # how long its kernel may take to answer
    ask_wait_s: float = 0.8  # a steward gives the other observers, and the accused, that long
    hold_s: float = 2.5  # a steward waits for undecided suspects no longer than that
    lossy_hold_s: float = 5.0  # the same for links that lose: nobody waits for that, and company makes one view of many
    takeover_s: float = 1.0  # by so much a steward leads the next one
    batch_s: float = 0.05  # joins, leaves and changes wait so long for company ...
    batch_max_s: float = 3.0  # ... and up to that where one batch follows another
    petition_retry_s: float = 2.0
    hello_interval_s: float = 1.0  # while nobody has let us in
    reunion_interval_s: float = 4.0  # between attempts to reach one of those that were removed
    steady_s: float = 30.0  # one that was cut off alone shows its good contact for so long before it asks to return
    forget_after_s: float = 600.0


PRESETS: Final = {
    "local": MembershipSettings(
        near=Pace(0.1, 0.5, 1.0), wide=Pace(0.5, 0.9, 1.3), frozen_after_s=6.0, knock_wait_s=0.3, ask_wait_s=0.4
    ),
    "lan": MembershipSettings(),
    "wan": MembershipSettings(
        near=Pace(1.0, 4.0, 8.0),
        wide=Pace(2.0, 4.5, 8.0),
        frozen_after_s=20.0,
        knock_wait_s=2.0,
        ask_wait_s=2.0,
        hold_s=6.0,
        lossy_hold_s=10.0,
        takeover_s=3.0,
        petition_retry_s=5.0,
        reunion_interval_s=8.0,
    ),
}
