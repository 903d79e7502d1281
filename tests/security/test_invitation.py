"""Join strings survive copying or are told to be damaged; answers are believed only from the mesh that invited."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.security.makers import ADDRESSES, HOUR_MS, NOW, YEAR_MS, founded, identity_of
from zmesh.errors import InvitationError
from zmesh.security import EnrolAnswer, Keystore, NodeKeys, make_request, open_answer, parse_join_string
from zmesh.security.invitation import seal_answer
from zmesh.security.keys import new_curve_secret


@pytest.fixture
def join_string(founder: Keystore) -> str:
    return founder.authority().create_invitation(NOW, HOUR_MS, ADDRESSES)


def with_body(fields: list[object]) -> str:
    body = msgpack.packb(fields)
    return "zmesh1." + base64.urlsafe_b64encode(body + hashlib.blake2b(body).digest()[:4]).decode().rstrip("=")


def test_a_join_string_says_where_to_dial_and_whom_to_believe(founder: Keystore, join_string: str) -> None:
    invitation = parse_join_string(join_string)
    identity = identity_of(founder)
    assert invitation.addresses == ADDRESSES
    assert invitation.gate_public == identity.gate_public
    assert invitation.authority_public == identity.authority_public
    assert (invitation.mesh, invitation.mesh_id) == ("lab", identity.mesh_id)
    assert invitation.expires_ms == NOW + HOUR_MS


def test_a_join_string_survives_being_pasted_with_white_space(join_string: str) -> None:
    assert parse_join_string(f"  {join_string}\n") == parse_join_string(join_string)


def test_a_join_string_is_one_shell_word(join_string: str) -> None:
    assert set(join_string.removeprefix("zmesh1.")) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    )


def test_every_changed_character_is_noticed(join_string: str) -> None:
    for position, character in enumerate(join_string):
        changed = join_string[:position] + ("A" if character != "A" else "B") + join_string[position + 1 :]
        with pytest.raises(InvitationError):
            parse_join_string(changed)


def test_every_cut_is_noticed(join_string: str) -> None:
    for length in range(len(join_string)):
        with pytest.raises(InvitationError):
            parse_join_string(join_string[:length])


@given(st.text(max_size=200))
def test_any_text_is_refused_in_one_line(text: str) -> None:
    for attempt in (text, f"zmesh1.{text}"):
        with pytest.raises(InvitationError) as caught:
            parse_join_string(attempt)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {0: ["tcp://a"] * 17},
        {1: bytes(31)},
        {2: bytes(33)},
        {3: b"lab"},
        {4: b""},
        {5: bytes(16)},
        {6: "soon"},
        {3: "../lab"},
        {3: ""},
        {3: "a/b"},
        {0: "a"},
    ],
    ids=str,
)
def test_a_join_string_of_impossible_fields_is_refused(change: dict[int, object]) -> None:
    fields: list[object] = [["tcp://a:1"], bytes(32), bytes(32), "lab", bytes(16), bytes(32), NOW]
    assert parse_join_string(with_body(fields)).mesh == "lab"
    for position, value in change.items():
        fields[position] = value
    with pytest.raises(InvitationError, match="copy the whole line again"):
        parse_join_string(with_body(fields))
    with pytest.raises(InvitationError, match="copy the whole line again"):
        parse_join_string(with_body([*fields, 1]))


def test_a_very_long_join_string_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(InvitationError, match="4096 characters"):
        parse_join_string("zmesh1." + "A" * 5000)


def test_an_answer_gives_a_certificate_for_the_joiners_keys(founder: Keystore, join_string: str) -> None:
    invitation, keys = parse_join_string(join_string), NodeKeys.generate()
    answer = founder.authority().enrol(make_request(invitation, "laptop", keys), NOW)
    enrolled = open_answer(invitation, keys, answer, NOW)
    assert (enrolled.name, enrolled.mesh) == ("laptop", "lab")
    assert enrolled.keys is keys
    assert enrolled.gate_secret == identity_of(founder).gate_secret


def test_only_the_joiner_can_open_its_answer(founder: Keystore, join_string: str) -> None:
    invitation = parse_join_string(join_string)
    answer = founder.authority().enrol(make_request(invitation, "laptop", NodeKeys.generate()), NOW)
    with pytest.raises(InvitationError, match="cannot be read"):
        open_answer(invitation, NodeKeys.generate(), answer, NOW)


def test_every_flipped_byte_of_an_answer_is_noticed(founder: Keystore, join_string: str) -> None:
    invitation, keys = parse_join_string(join_string), NodeKeys.generate()
    sealed = founder.authority().enrol(make_request(invitation, "laptop", keys), NOW).sealed
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x80
        with pytest.raises(InvitationError):
            open_answer(invitation, keys, EnrolAnswer(bytes(changed)), NOW)


@given(st.binary(max_size=200))
def test_a_garbage_answer_is_an_invitation_error(garbage: bytes) -> None:
    invitation, keys = parse_join_string(STRANGE_JOIN_STRING), STRANGE_KEYS
    for sealed in (garbage, sealed_bytes(garbage, STRANGE_KEYS)):
        with pytest.raises(InvitationError):
            open_answer(invitation, keys, EnrolAnswer(sealed), NOW)


def test_an_answer_of_another_mesh_is_refused(founder: Keystore, join_string: str, tmp_path: Path) -> None:
    invitation, keys = parse_join_string(join_string), NodeKeys.generate()
    other = founded(tmp_path / "other")
    theirs = parse_join_string(other.authority().create_invitation(NOW, HOUR_MS, ADDRESSES))
    answer = other.authority().enrol(make_request(theirs, "laptop", keys), NOW)
    with pytest.raises(InvitationError, match="came from another mesh"):
        open_answer(invitation, keys, answer, NOW)
    with pytest.raises(InvitationError, match="false signature"):  # the right gate, and still the wrong authority
        open_answer(replace(theirs, authority_public=invitation.authority_public), keys, answer, NOW)
    gate_secret = identity_of(founder).gate_secret
    forged = seal_answer(open_answer(theirs, keys, answer, NOW).certificate, gate_secret, keys.curve_public)
    with pytest.raises(InvitationError, match="another mesh"):
        open_answer(invitation, keys, forged, NOW)


def test_an_answer_with_a_gate_key_that_does_not_fit_is_refused(founder: Keystore, join_string: str) -> None:
    invitation, keys = parse_join_string(join_string), NodeKeys.generate()
    answer = founder.authority().enrol(make_request(invitation, "laptop", keys), NOW)
    certificate = open_answer(invitation, keys, answer, NOW).certificate
    with pytest.raises(InvitationError, match="came from another mesh"):
        open_answer(invitation, keys, seal_answer(certificate, new_curve_secret(), keys.curve_public), NOW)


def test_an_answer_for_other_keys_is_refused(founder: Keystore, join_string: str) -> None:
    invitation, keys, other = parse_join_string(join_string), NodeKeys.generate(), NodeKeys.generate()
    gate_secret = identity_of(founder).gate_secret
    for name, curve, signing, words in (("a", other, keys, "another key"), ("b", keys, other, "another signing key")):
        certificate = founder.authority().issue(name, curve.curve_public, signing.signing_public, NOW)
        with pytest.raises(InvitationError, match=words):
            open_answer(invitation, keys, seal_answer(certificate, gate_secret, keys.curve_public), NOW)


def test_an_answer_with_a_dead_certificate_names_the_clock(founder: Keystore, join_string: str) -> None:
    invitation, keys = parse_join_string(join_string), NodeKeys.generate()
    answer = founder.authority().enrol(make_request(invitation, "laptop", keys), NOW)
    with pytest.raises(InvitationError, match="clock"):
        open_answer(invitation, keys, answer, NOW + 2 * YEAR_MS)


def test_an_oversize_answer_is_refused_unopened(join_string: str) -> None:
    with pytest.raises(InvitationError, match="8192 bytes"):
        open_answer(parse_join_string(join_string), NodeKeys.generate(), EnrolAnswer(bytes(9000)), NOW)


def sealed_bytes(content: bytes, keys: NodeKeys) -> bytes:
    return seal_answer(content, new_curve_secret(), keys.curve_public).sealed


STRANGE_KEYS = NodeKeys.generate()
STRANGE_JOIN_STRING = with_body([["tcp://a:1"], bytes(range(32)), bytes(range(32)), "lab", bytes(16), bytes(32), NOW])
