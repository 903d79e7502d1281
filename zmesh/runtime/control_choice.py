"""Which membership machine a node runs: the one place where that is decided."""

from __future__ import annotations

from zmesh.runtime.control_interface import MemberDriver, MemberParts
from zmesh.runtime.control_members import Members
from zmesh.runtime.overlay_members import OverlayMembers

__all__ = ["make_members"]

# Set on this branch; the switch itself, with its documentation, is made elsewhere.
RUNS_OVERLAY = True


def make_members(parts: MemberParts) -> MemberDriver:
    """The driver of the machine in force."""
    return OverlayMembers(parts) if RUNS_OVERLAY else Members(parts)
