"""Becoming a member, and becoming one again before the certificate ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.control_mesh import Node
from tests.security.makers import DAY_MS, HOUR_MS, YEAR_MS, founded, identity_of, joined
from zmesh import InvitationError, NetworkConfig, joining
from zmesh.joining import take_identity
from zmesh.model import now_ms
from zmesh.security import Keystore


@pytest.fixture
def founder(tmp_path: Path) -> Keystore:
    return founded(tmp_path / "founder", now_ms=now_ms())


def member_with_days_left(founder: Keystore, home: Path, days: int) -> int:
    """A machine that was enrolled long ago; when its certificate ends."""
    enrolled_ms = now_ms() - YEAR_MS + days * DAY_MS
    joined(founder, home, "laptop", enrolled_ms)
    return enrolled_ms + YEAR_MS


def take(founder: Keystore, home: Path, address: str) -> int:
    """Start with a new join string that names the address; when the certificate it starts with ends."""
    join = founder.authority().create_invitation(now_ms(), HOUR_MS, (address,))
    membership = take_identity(NetworkConfig(home=home, join=join))
    membership.claim.release()
    assert membership.claim.identity.node_id == "laptop"
    return membership.claim.identity.vouched_until_ms


def test_a_member_whose_certificate_ends_soon_is_renewed_by_a_join_string(founder: Keystore, tmp_path: Path) -> None:
    ends = member_with_days_left(founder, tmp_path / "home", 20)
    with Node(identity_of(founder, now_ms=now_ms()), authority=founder.authority()) as node:
        assert take(founder, tmp_path / "home", f"tcp://127.0.0.1:{node.port}") > ends + 300 * DAY_MS


def test_a_member_starts_all_the_same_when_nobody_renews_it(
    founder: Keystore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(joining, "ENROL_TIMEOUT_S", 0.1)
    ends = member_with_days_left(founder, tmp_path / "home", 20)
    assert take(founder, tmp_path / "home", "tcp://127.0.0.1:1") == ends
    assert "was not renewed: nobody has let this machine in" in caplog.text


def test_a_member_with_time_left_asks_nobody(founder: Keystore, tmp_path: Path) -> None:
    ends = member_with_days_left(founder, tmp_path / "home", 40)
    assert take(founder, tmp_path / "home", "tcp://127.0.0.1:1") == ends


def test_who_is_no_member_does_not_start(founder: Keystore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "ENROL_TIMEOUT_S", 0.1)
    with pytest.raises(InvitationError, match="nobody has let this machine in"):
        take(founder, tmp_path / "home", "tcp://127.0.0.1:1")
    assert not (tmp_path / "home").exists()


def test_a_mesh_that_is_just_being_made_is_not_taken_for_one(founder: Keystore, tmp_path: Path) -> None:
    """It is made in a hidden directory, which gets its name when it is whole."""
    home = tmp_path / "home"
    half = home / ".lab.0123456789ab"
    half.mkdir(parents=True)
    (half / "mesh.msgpack").write_bytes(b"")
    assert NetworkConfig(home=home).mesh_name == "default"


def test_each_start_of_a_node_is_numbered_above_the_last_whatever_the_clock_says(
    founder: Keystore, tmp_path: Path
) -> None:
    at_ms = now_ms()
    numbers: list[int] = []
    for clock_ms in (at_ms, at_ms + 5, at_ms + 5, at_ms - DAY_MS):
        claim = founder.claim("desk", client=False, now_ms=clock_ms)
        numbers.append(claim.incarnation)
        claim.release()
    assert numbers[:2] == [at_ms, at_ms + 5]  # the clock, as long as it goes forwards
    assert numbers == sorted(set(numbers))
    assert numbers[3] - numbers[2] >= 1_000_000  # room for the sessions of the life before
