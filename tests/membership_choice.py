"""Runs tests once with each membership machine: what both promise must hold with both."""

from __future__ import annotations

import pytest

from zmesh.runtime import control_choice

__all__ = ["heartbeats_only", "membership"]

MACHINES = ("heartbeats", "membership")


@pytest.fixture(params=MACHINES)
def membership(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The machine that every node of this process runs."""
    monkeypatch.setattr(control_choice, "RUNS_OVERLAY", request.param == "membership")
    marker = request.node.get_closest_marker("heartbeats_only")
    if marker is not None and request.param == "membership":
        pytest.skip(marker.args[0])
    return str(request.param)


def heartbeats_only(reason: str) -> pytest.MarkDecorator:
    """A test of what the overlay does not promise, or not yet; docs/design/03-membership.md lists these."""
    return pytest.mark.heartbeats_only(reason)
