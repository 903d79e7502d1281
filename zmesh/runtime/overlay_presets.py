"""The settings of the membership machine that belong to the times a node was given."""

from __future__ import annotations

from dataclasses import replace

from zmesh.config import PRESETS as TIMINGS
from zmesh.config import Timings
from zmesh.core.membership.settings import PRESETS, MembershipSettings, Pace

__all__ = ["membership_settings"]


def membership_settings(timings: Timings) -> MembershipSettings:
    """The overlay's preset of the same name; where times were chosen one by one, those apply to small meshes."""
    for name, preset in TIMINGS.items():
        if preset == timings:
            return replace(PRESETS[name], forget_after_s=timings.forget_after_s)
    near = Pace(timings.heartbeat_interval_s, timings.suspect_after_s, timings.dead_after_s)
    return replace(PRESETS["lan"], near=near, forget_after_s=timings.forget_after_s)
