"""Certificates over the years, and machines that were enrolled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.makers import (
    ADDRESSES,
    DAY_MS,
    HOUR_MS,
    NOW,
    YEAR_MS,
    enrolled,
    founded,
    identity_of,
    joined,
    sentence,
    verifier_of,
)
from zmesh.errors import KeystoreError
from zmesh.security import Keystore, default_node_name, parse_join_string

HOST = default_node_name()


# -- clocks and periods ----------------------------------------------------------------------------------------------


def test_the_founder_renews_its_own_certificate_past_half_its_life(founder: Keystore) -> None:
    first = identity_of(founder)
    assert identity_of(founder, now_ms=NOW + 100 * DAY_MS).certificate == first.certificate
    for later in (NOW + 200 * DAY_MS, NOW + 2 * YEAR_MS):
        renewed = identity_of(founder, now_ms=later)
        verified = verifier_of(renewed).verify(renewed.certificate, later, first.curve_public)
        assert verified.not_after_ms == later + YEAR_MS


def test_a_delegated_certificate_is_made_anew_at_every_start(laptop: Keystore) -> None:
    for now_ms in (NOW, NOW + 100 * DAY_MS):
        identity = identity_of(laptop, "laptop/2", now_ms=now_ms)
        assert verifier_of(identity).verify(identity.certificate, now_ms).not_after_ms == now_ms + 30 * DAY_MS
    late = identity_of(laptop, "laptop/2", now_ms=NOW + 360 * DAY_MS)
    assert verifier_of(late).verify(late.certificate, NOW + 360 * DAY_MS).not_after_ms == NOW + YEAR_MS


@pytest.mark.parametrize("client", [False, True])
def test_an_expired_enrolment_says_how_to_renew_it(laptop: Keystore, client: bool) -> None:
    text = sentence(laptop, client=client, now_ms=NOW + YEAR_MS + 3 * DAY_MS)
    assert "'laptop' expired 3 days ago" in text
    assert "zmesh-node --join STRING" in text
    assert "clock" in text


@pytest.mark.parametrize("client", [False, True])
def test_a_clock_before_the_certificates_life_is_named(founder: Keystore, laptop: Keystore, client: bool) -> None:
    identity_of(founder)
    for keystore in (founder, laptop):
        text = sentence(keystore, client=client, now_ms=NOW - 10 * DAY_MS)
        assert "becomes valid only in 10 days: set the clock" in text


# -- enrolled machines -----------------------------------------------------------------------------------------------


def test_an_expired_machine_enrols_again_under_its_name(founder: Keystore, laptop: Keystore, tmp_path: Path) -> None:
    old = identity_of(laptop)
    later = NOW + YEAR_MS + DAY_MS
    invitation = parse_join_string(founder.authority().create_invitation(later, HOUR_MS, ADDRESSES))
    assert laptop.is_member_by(invitation, NOW)
    assert not laptop.is_member_by(invitation, later)
    assert laptop.to_enrol(None)[0] == "laptop"
    joined(founder, tmp_path / "joiner", "laptop", later)
    new = identity_of(laptop, now_ms=later)
    assert (new.node_id, new.curve_public) == (old.node_id, old.curve_public)
    assert laptop.is_member_by(invitation, later)


def test_a_new_machine_enrols_under_its_host_name_with_fresh_keys(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "home", "lab")
    name, keys = keystore.to_enrol(None)
    assert name == HOST
    assert keystore.to_enrol("x")[0] == "x"
    assert keystore.to_enrol(None)[1].curve_public != keys.curve_public


def test_a_founder_needs_no_invitation_to_its_own_mesh(founder: Keystore) -> None:
    invitation = parse_join_string(founder.authority().create_invitation(NOW, HOUR_MS, ADDRESSES))
    assert founder.is_member_by(invitation, NOW)


def test_a_machine_of_nothing_is_no_member(founder: Keystore, tmp_path: Path) -> None:
    invitation = parse_join_string(founder.authority().create_invitation(NOW, HOUR_MS, ADDRESSES))
    assert not Keystore(tmp_path / "new", "lab").is_member_by(invitation, NOW)


def test_joining_a_second_mesh_under_the_same_name_is_told_before_the_invitation_is_spent(
    founder: Keystore, tmp_path: Path
) -> None:
    other = founded(tmp_path / "other")
    invitation = parse_join_string(founder.authority().create_invitation(NOW, HOUR_MS, ADDRESSES))
    for attempt in (
        lambda: other.is_member_by(invitation, NOW),
        lambda: other.save_enrolled(enrolled(founder, Keystore(tmp_path / "fresh", "lab"), "laptop")),
    ):
        with pytest.raises(KeystoreError, match=r"holds another mesh.*--mesh, or move the directory away"):
            attempt()
    assert other.has_authority()


def test_a_mesh_may_have_another_name_here_than_it_calls_itself(founder: Keystore, tmp_path: Path) -> None:
    joiner = Keystore(tmp_path / "joiner", "work")
    joiner.save_enrolled(enrolled(founder, joiner, "laptop"))
    assert identity_of(joiner).mesh == "lab"
    assert (tmp_path / "joiner" / "work" / "mesh.msgpack").exists()


def test_an_enrolled_machine_has_no_authority_and_says_where_it_is(laptop: Keystore) -> None:
    assert not laptop.has_authority()
    with pytest.raises(KeystoreError, match="on the machine that founded it"):
        laptop.authority()


def test_a_mesh_without_any_identity_says_how_to_get_one(laptop: Keystore, tmp_path: Path) -> None:
    (tmp_path / "joiner" / "lab" / "nodes" / "laptop" / "identity.msgpack").unlink()
    for client in (False, True):
        assert "zmesh invite" in sentence(laptop, client=client)
