"""A new machine enrols over real sockets with a join string, once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.control_mesh import Mesh, Node, wait_until_all_see_all
from zmesh.errors import InvitationError
from zmesh.model import now_ms
from zmesh.runtime.enrolment import enrol
from zmesh.security import Invitation, Keystore, NodeKeys, parse_join_string

HOUR_MS = 3_600_000


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path / "founder", "lab")


@pytest.fixture
def founder(mesh: Mesh) -> Iterator[Node]:
    with Node(mesh.identity("a"), authority=mesh.authority) as node:
        yield node


def invitation_to(mesh: Mesh, *addresses: str) -> Invitation:
    return parse_join_string(mesh.authority.create_invitation(now_ms(), HOUR_MS, addresses))


def test_the_enrolled_can_join_at_once(mesh: Mesh, founder: Node, tmp_path: Path) -> None:
    invitation = invitation_to(mesh, f"tcp://127.0.0.1:{founder.port}")
    enrolled = enrol(invitation, "laptop", NodeKeys.generate(), 10.0)
    assert enrolled.name == "laptop"
    keystore = Keystore(tmp_path / "joiner", "lab")
    keystore.save_enrolled(enrolled)
    claim = keystore.claim("laptop", client=False, now_ms=now_ms())
    with Node(claim.identity) as laptop:
        laptop.dial(founder)
        wait_until_all_see_all(founder, laptop)
    claim.release()
    assert founder.plane.statistics().enrolments == 1


def test_addresses_are_asked_in_parallel(mesh: Mesh, founder: Node) -> None:
    dead = ("tcp://192.0.2.1:7650", "tcp://no.such.host.invalid:7650", "tcp://127.0.0.1:1")
    invitation = invitation_to(mesh, *dead, f"tcp://localhost:{founder.port}")
    started = time.monotonic()
    assert enrol(invitation, "laptop", NodeKeys.generate(), 10.0).name == "laptop"
    assert time.monotonic() - started < 3.0


def test_an_invitation_is_good_for_one(mesh: Mesh, founder: Node) -> None:
    invitation = invitation_to(mesh, f"tcp://127.0.0.1:{founder.port}")
    enrol(invitation, "laptop", NodeKeys.generate(), 10.0)
    with pytest.raises(InvitationError, match="used"):
        enrol(invitation, "thief", NodeKeys.generate(), 10.0)
    assert founder.plane.statistics().incidents == {"refused_introduction": 1}


def test_a_member_without_the_authority_cannot_enrol_and_the_founder_beside_it_does(mesh: Mesh, founder: Node) -> None:
    with Node(mesh.identity("b")) as other:
        addresses = [f"tcp://127.0.0.1:{node.port}" for node in (other, founder)]
        assert enrol(invitation_to(mesh, *addresses), "laptop", NodeKeys.generate(), 10.0).name == "laptop"
        with pytest.raises(InvitationError, match="did not found the mesh"):
            enrol(invitation_to(mesh, addresses[0]), "tablet", NodeKeys.generate(), 1.0)


def test_nobody_there_is_said_with_the_addresses(mesh: Mesh) -> None:
    addresses = ("tcp://127.0.0.1:1", "tcp://no.such.host.invalid:7650")
    told = r"tcp://127\.0\.0\.1:1: connection refused; tcp://no\.such\.host\.invalid:7650: cannot look up .*firewalls"
    with pytest.raises(InvitationError, match=told) as caught:
        enrol(invitation_to(mesh, *addresses), "laptop", NodeKeys.generate(), 0.3)
    assert "\n" not in str(caught.value)


def test_one_who_takes_connections_and_says_nothing_is_told_from_nobody(mesh: Mesh) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        pytest.raises(InvitationError, match="something answers there, but no node of this mesh"),
    ):
        enrol(invitation_to(mesh, f"tcp://127.0.0.1:{mute.getsockname()[1]}"), "laptop", NodeKeys.generate(), 0.3)


def test_an_abandoned_enrolment_ends_soon(mesh: Mesh) -> None:
    asked: list[float] = []

    def is_abandoned() -> bool:
        asked.append(time.monotonic())
        return len(asked) == 3

    with pytest.raises(InvitationError, match="given up"):
        enrol(invitation_to(mesh, "tcp://127.0.0.1:1"), "laptop", NodeKeys.generate(), 600.0, is_abandoned)
    assert len(asked) == 3


def test_another_mesh_does_not_answer(mesh: Mesh, tmp_path: Path) -> None:
    other = Mesh(tmp_path / "other", "other")
    with Node(other.identity("x"), authority=other.authority) as stranger:
        with pytest.raises(InvitationError, match="no node of this mesh"):
            enrol(invitation_to(mesh, f"tcp://127.0.0.1:{stranger.port}"), "laptop", NodeKeys.generate(), 0.5)
        assert stranger.plane.statistics().enrolments == 0
