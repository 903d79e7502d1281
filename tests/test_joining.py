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
