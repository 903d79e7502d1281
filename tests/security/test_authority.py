"""The authority gives each name to one pair of keys, and each invitation to one machine, whoever else is writing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.security.makers import ADDRESSES, DAY_MS, HOUR_MS, NOW, YEAR_MS, founded, identity_of, verifier_of
from zmesh.errors import InvitationError, KeystoreError, UsageError
from zmesh.security import Authority, Keystore, NodeKeys, authority, make_request, open_answer, parse_join_string
from zmesh.security.certificate import decode_chain
from zmesh.security.files import FileLock
from zmesh.security.invitation import EnrolRequest, Invitation
from zmesh.security.keys import z85_encode
from zmesh.security.ledger import Ledger, LedgerFile

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lab(founder: Keystore) -> Authority:
    return founder.authority()


def invited(lab: Authority, valid_ms: int = HOUR_MS) -> Invitation:
    return parse_join_string(lab.create_invitation(NOW, valid_ms, ADDRESSES))


def request_for(invitation: Invitation, name: str = "laptop", keys: NodeKeys | None = None) -> EnrolRequest:
    return make_request(invitation, name, keys or NodeKeys.generate())


def start(action: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.security.redeem", action, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Let all processes go at the same moment; what each printed."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return results


# -- certificates ----------------------------------------------------------------------------------------------------


def test_an_issued_certificate_lives_a_year_and_has_the_next_serial(founder: Keystore, lab: Authority) -> None:
    verifier = verifier_of(identity_of(founder, "first"))
    for serial in (2, 3):
        keys = NodeKeys.generate()
        chain = lab.issue(f"node{serial}", keys.curve_public, keys.signing_public, NOW)
        verified = verifier.verify(chain, NOW, keys.curve_public)
        assert (verified.serial, verified.not_after_ms - verified.not_before_ms) == (serial, YEAR_MS)


def test_a_name_belongs_to_its_first_pair_of_keys(lab: Authority) -> None:
    mine, other = NodeKeys.generate(), NodeKeys.generate()
    lab.issue("desk", mine.curve_public, mine.signing_public, NOW)
    lab.issue("desk", mine.curve_public, mine.signing_public, NOW + DAY_MS)
    for curve, signing in ((other, other), (mine, other), (other, mine)):
        with pytest.raises(KeystoreError, match="'desk' belongs to another machine"):
            lab.issue("desk", curve.curve_public, signing.signing_public, NOW)


@pytest.mark.parametrize("name", ["", "desk/2", "a b", "-desk", "x" * 64, "desk\n"])
def test_the_authority_signs_no_name_that_is_not_its_to_give(lab: Authority, name: str) -> None:
    keys = NodeKeys.generate()
    with pytest.raises(KeystoreError, match="cannot certify"):
        lab.issue(name, keys.curve_public, keys.signing_public, NOW)


# -- invitations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("valid_ms", [0, -1, 30 * DAY_MS + 1])
def test_an_invitation_has_a_sensible_life(lab: Authority, valid_ms: int) -> None:
    with pytest.raises(UsageError, match="30 days"):
        lab.create_invitation(NOW, valid_ms, ADDRESSES)


@pytest.mark.parametrize("addresses", [[], ["tcp://10.0.0.5:7650"] * 17])
def test_an_invitation_says_where_to_go(lab: Authority, addresses: list[str]) -> None:
    with pytest.raises(UsageError, match="1 to 16 addresses"):
        lab.create_invitation(NOW, HOUR_MS, addresses)


def test_an_invitation_that_nobody_could_read_back_is_not_made(lab: Authority) -> None:
    with pytest.raises(UsageError, match="too long"):
        lab.create_invitation(NOW, HOUR_MS, ["tcp://" + "a" * 5000])


def test_invitations_are_limited_in_number(lab: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "MAX_INVITATIONS", 3)
    for _ in range(3):
        invited(lab)
    with pytest.raises(UsageError, match="3 invitations already"):
        invited(lab)
    assert lab.create_invitation(NOW + 8 * DAY_MS, HOUR_MS, ADDRESSES)  # the old ones are forgotten by then


def test_an_invitation_is_good_once(lab: Authority) -> None:
    invitation = invited(lab)
    lab.enrol(request_for(invitation), NOW)
    with pytest.raises(InvitationError, match="used already"):
        lab.enrol(request_for(invitation), NOW)


def test_the_same_machine_may_ask_again_when_the_answer_was_lost(lab: Authority) -> None:
    invitation, keys = invited(lab), NodeKeys.generate()
    request = request_for(invitation, keys=keys)
    lab.enrol(request, NOW)
    again = open_answer(invitation, keys, lab.enrol(request, NOW), NOW)
    assert again.name == "laptop"


def test_a_stolen_join_string_cannot_put_a_new_key_under_its_first_users_name(lab: Authority) -> None:
    invitation, victim, thief = invited(lab), NodeKeys.generate(), NodeKeys.generate()
    lab.enrol(request_for(invitation, keys=victim), NOW)
    mixed = NodeKeys(curve_secret=thief.curve_secret, signing_seed=victim.signing_seed)
    with pytest.raises(InvitationError, match="used already"):
        lab.enrol(request_for(invitation, keys=mixed), NOW)


def test_an_invitation_expires_by_the_authoritys_clock(lab: Authority) -> None:
    invitation = invited(lab)
    with pytest.raises(InvitationError, match="expired 2 minutes ago"):
        lab.enrol(request_for(invitation), NOW + HOUR_MS + 120_000)
    lab.enrol(request_for(invitation), NOW + HOUR_MS)


def test_an_invitation_is_forgotten_a_week_after_its_end(lab: Authority) -> None:
    invitation = invited(lab)
    with pytest.raises(InvitationError, match="unknown here, or expired long ago"):
        lab.enrol(request_for(invitation), NOW + HOUR_MS + 7 * DAY_MS)


def test_an_invitation_of_another_mesh_is_unknown(lab: Authority, tmp_path: Path) -> None:
    other = founded(tmp_path / "other").authority()
    with pytest.raises(InvitationError, match="unknown here"):
        lab.enrol(request_for(invited(other)), NOW)


def test_a_proof_is_bound_to_everything_it_asks_for(lab: Authority) -> None:
    invitation, thief = invited(lab), NodeKeys.generate()
    request = request_for(invitation)
    for changes in (
        {"name": "desk"},
        {"curve_public": thief.curve_public},
        {"signing_public": thief.signing_public},
        {"proof": bytes(32)},
        {"proof": b""},
    ):
        with pytest.raises(InvitationError, match="could not prove"):
            lab.enrol(replace(request, **changes), NOW)
    lab.enrol(request, NOW)  # none of that has used it up


@pytest.mark.parametrize("name", ["desk/2", "", "a\nb", "x" * 64])
def test_a_request_with_a_good_proof_for_an_impossible_name_is_refused(lab: Authority, name: str) -> None:
    invitation = invited(lab)
    with pytest.raises(InvitationError, match="is not a node name"):
        lab.enrol(request_for(invitation, name), NOW)
    lab.enrol(request_for(invitation), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"signing_public": bytes(31)},
        {"curve_public": bytes(40)},
        {"curve_public": b"short"},
        {"invitation_id": b""},
    ],
    ids=str,
)
def test_a_malformed_request_is_an_invitation_error(lab: Authority, changes: dict[str, object]) -> None:
    with pytest.raises(InvitationError):
        lab.enrol(replace(request_for(invited(lab)), **changes), NOW)  # type: ignore[arg-type]


def test_a_curve_key_that_nothing_can_be_sealed_to_is_refused_and_uses_nothing_up(lab: Authority) -> None:
    invitation, keys = invited(lab), NodeKeys.generate()
    object.__setattr__(keys, "curve_public", z85_encode(bytes(32)))
    with pytest.raises(InvitationError, match="no proper CURVE key"):
        lab.enrol(request_for(invitation, keys=keys), NOW)
    lab.enrol(request_for(invitation), NOW)


def test_a_taken_name_is_given_with_a_number(founder: Keystore, lab: Authority) -> None:
    identity_of(founder, "desk")
    names = []
    for wanted in ("desk", "desk", "d" * 63, "d" * 63):
        invitation, keys = invited(lab), NodeKeys.generate()
        answer = lab.enrol(request_for(invitation, wanted, keys), NOW)
        names.append(open_answer(invitation, keys, answer, NOW).name)
    assert names == ["desk-2", "desk-3", "d" * 63, "d" * 61 + "-2"]


# -- two processes ---------------------------------------------------------------------------------------------------


def test_of_many_processes_redeeming_one_invitation_one_succeeds(founder: Keystore, tmp_path: Path) -> None:
    join_string = founder.authority().create_invitation(NOW, HOUR_MS, ADDRESSES)
    processes = [start("redeem", str(tmp_path / "founder"), join_string, f"laptop{number}") for number in range(4)]
    printed = outputs(processes)
    assert sorted(text.strip() == "enrolled" for text in printed) == [False, False, False, True]
    assert sum("used already" in text for text in printed) == 3


def test_inviting_and_redeeming_in_different_processes_loses_nothing(founder: Keystore, tmp_path: Path) -> None:
    home = str(tmp_path / "founder")
    processes = [
        start("invite", home, "20"),
        start("enrol", home, "20", "laptop"),
        start("enrol", home, "20", "laptop"),
    ]
    join_strings, *enrolments = (text.split("\n")[:-1] for text in outputs(processes))
    for join_string in join_strings:
        founder.authority().enrol(request_for(parse_join_string(join_string), "desk"), NOW)
    names, serials = zip(*(line.split() for lines in enrolments for line in lines), strict=True)
    assert len(set(names)) == len(set(serials)) == 40


# -- what each check is worth: without it, the bad thing gets through ------------------------------------------------


@pytest.mark.parametrize(
    ("check", "now_ms"), [("_check_unused", NOW), ("_check_unexpired", NOW + 2 * HOUR_MS), ("_check_proof", NOW)]
)
def test_without_its_check_a_bad_redemption_gets_through(
    lab: Authority, monkeypatch: pytest.MonkeyPatch, check: str, now_ms: int
) -> None:
    invitation = invited(lab)
    request = request_for(invitation)
    if check == "_check_unused":
        lab.enrol(request_for(invitation), NOW)
    elif check == "_check_proof":
        request = replace(request, proof=bytes(32))
    with pytest.raises(InvitationError):
        lab.enrol(request, now_ms)
    monkeypatch.setattr(authority, check, lambda *_: None)
    assert lab.enrol(request, now_ms).sealed


def test_without_the_names_owner_an_invitation_takes_a_members_name(
    founder: Keystore, lab: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity_of(founder, "desk")
    monkeypatch.setattr(LedgerFile, "may_have", lambda *_: True)
    invitation, keys = invited(lab), NodeKeys.generate()
    answer = lab.enrol(request_for(invitation, "desk", keys), NOW)
    assert decode_chain(open_answer(invitation, keys, answer, NOW).certificate)[0].certificate.name == "desk"


def test_a_process_that_holds_the_ledger_is_waited_for_and_then_named(founder: Keystore, tmp_path: Path) -> None:
    directory = tmp_path / "founder" / "lab" / "authority"
    waiting = Ledger(directory, lock_timeout_s=0.05)
    with (
        Ledger(directory).transaction(NOW),
        pytest.raises(KeystoreError, match=r"another process has held .*ledger\.lock"),
        waiting.transaction(NOW),
    ):
        pytest.fail("two processes were in the ledger at once")


def test_without_the_lock_an_invitation_is_redeemed_twice(
    lab: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invitation = invited(lab)
    monkeypatch.setattr(FileLock, "acquire", lambda *_: None)
    with Ledger(tmp_path / "founder" / "lab" / "authority").transaction(NOW):
        lab.enrol(request_for(invitation), NOW)  # between another process's reading and its writing
    assert lab.enrol(request_for(invitation), NOW).sealed
