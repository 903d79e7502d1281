"""Which membership machine a node runs: the one place where that is decided."""

from __future__ import annotations

from zmesh.runtime.control_interface import MemberDriver, MemberParts
from zmesh.runtime.control_members import Members
from zmesh.runtime.overlay_members import OverlayMembers

__all__ = ["make_members"]

# Everyone heartbeats everyone (docs/spec/02) unless this is set, as tests do: docs/design/03 says what the overlay
# lacks before it can be the default. All nodes of a mesh must run the same.
RUNS_OVERLAY = True


def make_members(parts: MemberParts) -> MemberDriver:
    """The driver of the machine in force."""
    return OverlayMembers(parts) if RUNS_OVERLAY else Members(parts)
