"""The sizes that the simulator reckons are those of the frames that nodes send."""

from __future__ import annotations

from typing import Any

import pytest

from zmesh.core.membership.member import MemberEventKind
from zmesh.core.membership.messages import MembershipMessage
from zmesh.testing.conditions import Rule
from zmesh.testing.scenario import Scenario, draw_scenario
from zmesh.testing.subjects.membership import MembershipSubject
from zmesh.testing.subjects.membership_mesh import MembershipMesh
from zmesh.testing.subjects.membership_sizes import frame_bytes
from zmesh.testing.trial import run_trial
from zmesh.testing.world import World
from zmesh.wire.membership import encode_membership

SLACK_BYTES = 8  # a number that is longer or shorter than usual: of a heartbeat, or of the view that a body leads from


class Noting(MembershipSubject):
    """Every message of a trial, by kind."""

    noted: dict[str, list[MembershipMessage]]

    def build(self) -> None:
        super().build()
        noted: dict[str, list[MembershipMessage]] = {}
        type(self).noted = noted

        def size_of(message: Any) -> int:
            noted.setdefault(type(message).__name__, []).append(message)
            return frame_bytes(message)

        self.mesh.size_of = size_of


def test_reckoned_sizes_are_those_of_the_frames() -> None:
    assert run_trial(draw_scenario(MembershipSubject.settings, 0), Noting).failure == ""
    kinds = {"Heartbeat", "Answer", "Hello", "Petition", "Ask", "Vouch", "Pull", "Body", "Fetch", "Records"}
    assert kinds <= Noting.noted.keys()
    for messages in Noting.noted.values():
        for message in messages[:200]:
            assert frame_bytes(message) == pytest.approx(len(encode_membership(message)), abs=SLACK_BYTES)


def test_a_heartbeat_has_the_27_bytes_of_the_specification_or_a_few_less() -> None:
    run_trial(Scenario("membership", 1, 3, 20.0, 10.0), Noting)
    heartbeat = Noting.noted["Heartbeat"][-1]
    assert abs(frame_bytes(heartbeat) - len(encode_membership(heartbeat))) <= 3


def test_a_throttled_line_delays_heartbeats() -> None:
    """Which it did not while they had no size: 27 bytes take longer at 20 bytes a second than nodes are patient."""
    world = World(1)
    mesh = MembershipMesh(world, MembershipSubject.timings)
    mesh.start_joined(["n0", "n1", "n2"])
    world.network.apply(Rule(("n0",), ("n1",), bytes_per_s=20.0))
    world.run_for(20.0)
    suspected = {(who, told.alive.node_id) for _, who, told in mesh.told if told.kind is MemberEventKind.SUSPECTED}
    assert suspected == {("n1", "n0")}
