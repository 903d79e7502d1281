"""Homes, claims and what a damaged, foreign or unwritable directory says."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
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
    verifier_of,
)
from zmesh.errors import ConfigurationError, KeystoreError
from zmesh.security import Claim, Keystore, RunningNode, default_node_name, naming, parse_join_string

ROOT = Path(__file__).parents[2]
HOST = default_node_name()


@pytest.fixture
def claim() -> Iterator[Callable[..., Claim]]:
    """Claims that are released at the end of the test."""
    made: list[Claim] = []

    def make(keystore: Keystore, node_id: str | None = None, *, client: bool = False, now_ms: int = NOW) -> Claim:
        made.append(keystore.claim(node_id, client=client, now_ms=now_ms))
        return made[-1]

    yield make
    for each in made:
        each.release()


@pytest.fixture
def laptop(founder: Keystore, tmp_path: Path) -> Keystore:
    return joined(founder, tmp_path / "joiner")


def sentence(keystore: Keystore, node_id: str | None = None, *, client: bool = False, now_ms: int = NOW) -> str:
    with pytest.raises(KeystoreError) as caught:
        keystore.claim(node_id, client=client, now_ms=now_ms)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- founding --------------------------------------------------------------------------------------------------------


def test_a_new_home_has_no_mesh_and_says_how_to_make_one(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "home", "lab")
    assert not keystore.exists()
    assert not keystore.has_authority()
    assert "zmesh init" in sentence(keystore)
    with pytest.raises(KeystoreError, match="zmesh init"):
        keystore.authority()
    with pytest.raises(KeystoreError, match="zmesh init"):
        keystore.running()
    assert not (tmp_path / "home").exists()


def test_founding_makes_an_authority_once(tmp_path: Path) -> None:
    keystore = founded(tmp_path / "a" / "b" / "home")
    assert keystore.exists()
    assert keystore.has_authority()
    with pytest.raises(ConfigurationError, match="exists already"):
        keystore.found(NOW)
    assert not keystore.ensure(NOW)


def test_two_meshes_live_in_one_home(tmp_path: Path) -> None:
    lab, plant = founded(tmp_path, "lab"), founded(tmp_path, "plant")
    assert identity_of(lab).mesh_id != identity_of(plant).mesh_id


def test_everything_on_the_disk_is_private_and_nothing_temporary_stays(founder: Keystore, tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        joined(founder, tmp_path / "open")
        founded(tmp_path / "wide", "plant").claim(None, client=False, now_ms=NOW).release()
    finally:
        os.umask(previous)
    for home in (tmp_path / "founder", tmp_path / "open", tmp_path / "wide"):
        for path in (home, *home.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert {path.name for path in home.rglob(".*")} <= {".lock"}


def test_a_umask_that_forbids_everything_does_not_lock_us_out(unprivileged: Path) -> None:
    previous = os.umask(0o777)
    try:
        keystore = founded(unprivileged / "home")
        for _ in range(2):
            assert identity_of(keystore).node_id == HOST
    finally:
        os.umask(previous)


def test_of_two_processes_founding_at_once_both_have_the_same_mesh(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from zmesh.security import Keystore\n"
        "k = Keystore(pathlib.Path(sys.argv[1]), 'lab'); print('ready', flush=True); sys.stdin.readline()\n"
        f"founded = k.ensure({NOW}); c = k.claim(None, client=False, now_ms={NOW})\n"
        "print(founded, c.identity.mesh_id, c.identity.node_id, flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "home")]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    lines = []
    for prompt in ("ready", "result"):
        lines = [process.stdout.readline().split() for process in processes if process.stdout is not None]
        for process in processes:
            assert process.stdin is not None
            if prompt == "ready":
                process.stdin.write("\n")
                process.stdin.flush()
    for process in processes:
        process.communicate("\n", timeout=30)
    assert sorted(line[0] for line in lines) == ["False", "False", "True"]
    assert len({line[1] for line in lines}) == 1
    assert sorted(line[2] for line in lines) == [HOST, f"{HOST}-2", f"{HOST}-3"]


# -- claims ----------------------------------------------------------------------------------------------------------


def test_nodes_of_the_founder_take_the_host_name_and_numbers(founder: Keystore, claim: Callable[..., Claim]) -> None:
    names = [claim(founder).identity.node_id for _ in range(3)]
    assert names == [HOST, f"{HOST}-2", f"{HOST}-3"]


def test_a_released_name_is_taken_again_with_the_same_keys(founder: Keystore) -> None:
    first, second = identity_of(founder), identity_of(founder)
    assert (first.node_id, first.curve_public, first.certificate) == (HOST, second.curve_public, second.certificate)


def test_releasing_twice_gives_nothing_of_a_successor_away(founder: Keystore, claim: Callable[..., Claim]) -> None:
    first = claim(founder, "desk")
    first.release()
    second = claim(founder, "desk")
    second.announce(ADDRESSES)
    first.release()
    assert [node.node_id for node in founder.running()] == ["desk"]
    assert "runs on this machine already" in sentence(founder, "desk")


def test_a_name_in_use_says_by_which_process(founder: Keystore, claim: Callable[..., Claim]) -> None:
    held = claim(founder, "desk")
    assert "another process" in sentence(founder, "desk")
    held.announce(ADDRESSES)
    assert f"process {os.getpid()}" in sentence(founder, "desk")


@pytest.mark.parametrize("name", ["", "a b", "desk/2/3", "../desk", "-x"])
def test_an_impossible_name_is_refused(founder: Keystore, name: str) -> None:
    assert "letters, digits" in sentence(founder, name)


def test_an_enrolled_machine_numbers_its_nodes_under_its_name(laptop: Keystore, claim: Callable[..., Claim]) -> None:
    identities = [claim(laptop).identity for _ in range(3)]
    assert [identity.node_id for identity in identities] == ["laptop", "laptop/2", "laptop/3"]
    for identity in identities:
        verified = verifier_of(identity).verify(identity.certificate, NOW, identity.curve_public)
        assert verified.name == identity.node_id


def test_an_enrolled_machine_may_choose_names_under_its_own_only(laptop: Keystore) -> None:
    assert identity_of(laptop, "laptop/worker").node_id == "laptop/worker"
    text = sentence(laptop, "worker")
    assert "--name laptop/worker" in text
    assert "may not call itself 'worker'" in text
    assert "may not call itself 'desk'" in sentence(laptop, "desk/2")


def test_a_delegated_name_does_not_meddle_with_the_files_of_its_issuer(laptop: Keystore) -> None:
    for name in ("lock", "identity.msgpack", "running.json"):
        assert identity_of(laptop, f"laptop/{name}").node_id == f"laptop/{name}"
    assert identity_of(laptop).node_id == "laptop"


def test_a_name_that_another_machine_has_is_skipped_or_told(founder: Keystore, tmp_path: Path) -> None:
    joined(founder, tmp_path / "joiner", HOST)
    assert identity_of(founder).node_id == f"{HOST}-2"
    assert "belongs to another machine" in sentence(founder, HOST)


@pytest.mark.parametrize("node_id", [None, "laptop", "laptop/2"])
def test_a_client_gets_a_throwaway_name_and_leaves_nothing(
    laptop: Keystore, tmp_path: Path, node_id: str | None, claim: Callable[..., Claim]
) -> None:
    identity_of(laptop)
    before = sorted((tmp_path / "joiner").rglob("*"))
    first, second = claim(laptop, node_id, client=True), claim(laptop, node_id, client=True)
    assert first.identity.node_id.startswith("laptop/cli-")
    assert first.identity.node_id != second.identity.node_id
    first.announce(ADDRESSES)
    assert sorted((tmp_path / "joiner").rglob("*")) == before
    verified = verifier_of(first.identity).verify(first.identity.certificate, NOW, first.identity.curve_public)
    assert verified.not_after_ms == NOW + 2 * DAY_MS


def test_a_client_works_beside_a_running_node_and_on_a_founder_without_one(
    founder: Keystore, claim: Callable[..., Claim]
) -> None:
    assert claim(founder, client=True).identity.node_id.startswith(f"{HOST}/cli-")
    claim(founder)
    assert claim(founder, client=True).identity.node_id.startswith(f"{HOST}/cli-")


def test_a_client_of_a_founder_whose_host_name_is_taken_gets_a_numbered_issuer(
    founder: Keystore, tmp_path: Path, claim: Callable[..., Claim]
) -> None:
    joined(founder, tmp_path / "joiner", HOST)
    assert claim(founder, client=True).identity.node_id.startswith(f"{HOST}-2/cli-")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("desk.example.org", "desk"),
        ("my desk", "my-desk"),
        ("-_x", "x"),
        ("", "node"),
        ("é", "node"),
        ("h" * 90, "h" * 63),
    ],
)
def test_the_host_name_becomes_a_legal_node_name(monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    monkeypatch.setattr(naming.socket, "gethostname", lambda: host)
    assert default_node_name() == name


# -- who runs --------------------------------------------------------------------------------------------------------


def test_running_lists_the_announced_nodes_of_live_processes(founder: Keystore, claim: Callable[..., Claim]) -> None:
    assert founder.running() == []
    desk, _silent = claim(founder, "desk"), claim(founder, "silent")
    desk.announce(ADDRESSES)
    assert founder.running() == [RunningNode("desk", os.getpid(), ADDRESSES)]
    desk.announce(["tcp://10.0.0.6:7650"])
    assert founder.running()[0].addresses == ("tcp://10.0.0.6:7650",)
    desk.release()
    assert founder.running() == []


def test_a_killed_nodes_name_and_announcement_die_with_it(
    founder: Keystore, tmp_path: Path, claim: Callable[..., Claim]
) -> None:
    code = (
        "import sys, pathlib, signal; from zmesh.security import Keystore\n"
        f"c = Keystore(pathlib.Path(sys.argv[1]), 'lab').claim('desk', client=False, now_ms={NOW})\n"
        "c.announce(['tcp://10.0.0.9:7650']); print('up', flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "founder")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert founder.running() == [RunningNode("desk", process.pid, ("tcp://10.0.0.9:7650",))]
        assert f"process {process.pid}" in sentence(founder, "desk")
        process.send_signal(signal.SIGKILL)
    assert founder.running() == []
    assert claim(founder, "desk").identity.node_id == "desk"
    assert founder.running() == []  # the dead process's announcement is not taken for the new one's


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


# -- directories that cannot be used ---------------------------------------------------------------------------------


def test_an_unwritable_home_is_told_in_one_sentence(unprivileged: Path) -> None:
    unprivileged.chmod(0o500)
    keystore = Keystore(unprivileged / "home", "lab")
    with pytest.raises(
        KeystoreError, match=r"cannot make .*/home: the user '.*' has no permission.*ZMESH_HOME"
    ) as caught:
        keystore.found(NOW)
    assert "\n" not in str(caught.value)


def test_an_unwritable_mesh_is_told_in_one_sentence(unprivileged: Path) -> None:
    keystore = founded(unprivileged)
    (unprivileged / "lab").chmod(0o500)
    assert "has no permission" in sentence(keystore)


def test_an_unreadable_file_is_told_in_one_sentence(unprivileged: Path) -> None:
    keystore = founded(unprivileged)
    (unprivileged / "lab" / "mesh.msgpack").chmod(0)
    assert "cannot read" in sentence(keystore)


def test_an_unsearchable_mesh_is_told_in_one_sentence(unprivileged: Path) -> None:
    keystore = founded(unprivileged)
    (unprivileged / "lab").chmod(0)
    with pytest.raises(KeystoreError, match=r"cannot look at .*permission"):
        keystore.exists()
    (unprivileged / "lab").chmod(0o700)


@pytest.mark.parametrize("part", ["", "lab"])
def test_a_directory_open_to_others_is_refused(founder: Keystore, tmp_path: Path, part: str) -> None:
    directory = tmp_path / "founder" / part
    directory.chmod(0o777)
    assert f"run `chmod 700 {directory}`" in sentence(founder)


def test_a_home_that_others_can_look_at_will_do(founder: Keystore, tmp_path: Path) -> None:
    (tmp_path / "founder").chmod(0o755)
    assert identity_of(founder).node_id == HOST


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
@pytest.mark.parametrize("path", ["mesh.msgpack", "authority/key.msgpack", "authority/ledger.msgpack"])
def test_a_file_open_to_others_is_refused(founder: Keystore, tmp_path: Path, path: str, mode: int) -> None:
    identity_of(founder)
    file = tmp_path / "founder" / "lab" / path
    file.chmod(mode)
    text = sentence(founder, "other")
    assert f"mode {mode:04o}" in text
    assert f"run `chmod 600 {file}`" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("path", ["", "lab", "lab/mesh.msgpack", "lab/nodes/desk/identity.msgpack"])
def test_a_file_of_another_user_is_refused(founder: Keystore, tmp_path: Path, path: str) -> None:
    identity_of(founder, "desk")
    os.chown(tmp_path / "founder" / path, 65534, 65534)
    assert "belongs to the user 'nobody', not to 'root': run this as 'nobody'" in sentence(founder, "desk")


def test_a_home_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("hello")
    with pytest.raises(KeystoreError, match="not a directory"):
        Keystore(tmp_path / "home", "lab").found(NOW)


def test_a_mesh_directory_without_a_mesh_is_told(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir(mode=0o700)
    (tmp_path / "lab" / "notes.txt").write_text("hello")
    with pytest.raises(KeystoreError, match="holds files, but no mesh: move it away"):
        Keystore(tmp_path, "lab").found(NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]


@pytest.mark.parametrize(
    "path", ["mesh.msgpack", "authority/key.msgpack", "authority/ledger.msgpack", "nodes/desk/identity.msgpack"]
)
def test_every_flipped_byte_of_a_file_is_told_as_damage(founder: Keystore, tmp_path: Path, path: str) -> None:
    identity_of(founder, "desk")
    file = tmp_path / "founder" / "lab" / path
    content = file.read_bytes()
    for position in range(0, len(content), 7):
        file.write_bytes(content[:position] + bytes([content[position] ^ 0x21]) + content[position + 1 :])
        assert f"{file} is damaged" in sentence(founder, "desk" if "nodes" in path else "other")
    for cut in (content[:-1], b"", content + b"\0"):
        file.write_bytes(cut)
        assert f"{file} is damaged" in sentence(founder, "desk" if "nodes" in path else "other")
    file.write_bytes(content)
    assert identity_of(founder, "desk").node_id == "desk"


def test_a_damaged_announcement_is_told(founder: Keystore, tmp_path: Path, claim: Callable[..., Claim]) -> None:
    claim(founder, "desk").announce(ADDRESSES)
    file = tmp_path / "founder" / "lab" / "nodes" / "desk" / "running.json"
    for content in (b"", b"{", b"[]", b"{}", json.dumps({"pid": "x", "addresses": []}).encode(), b'"\xff"'):
        file.write_bytes(content)
        with pytest.raises(KeystoreError, match="damaged: remove it"):
            founder.running()


def test_files_put_in_the_wrong_place_are_told(founder: Keystore, tmp_path: Path) -> None:
    for name in ("desk", "chair"):
        identity_of(founder, name)
    nodes = tmp_path / "founder" / "lab" / "nodes"
    (nodes / "desk" / "identity.msgpack").rename(nodes / "chair" / "identity.msgpack")
    assert "belongs to the node 'desk'" in sentence(founder, "chair")


def test_an_authority_key_of_another_mesh_is_told(founder: Keystore, tmp_path: Path) -> None:
    founded(tmp_path / "other")
    source = tmp_path / "other" / "lab" / "authority" / "key.msgpack"
    (tmp_path / "founder" / "lab" / "authority" / "key.msgpack").write_bytes(source.read_bytes())
    assert "is of another mesh" in sentence(founder)


def test_an_identity_of_another_mesh_is_told(founder: Keystore, tmp_path: Path) -> None:
    identity_of(founder, "desk")
    identity_of(founded(tmp_path / "other"), "desk")
    source = tmp_path / "other" / "lab" / "nodes" / "desk" / "identity.msgpack"
    (tmp_path / "founder" / "lab" / "nodes" / "desk" / "identity.msgpack").write_bytes(source.read_bytes())
    assert "belongs to another mesh" in sentence(founder, "desk")


def test_a_failed_claim_frees_the_name(founder: Keystore, tmp_path: Path) -> None:
    identity_of(founder, "desk")
    file = tmp_path / "founder" / "lab" / "nodes" / "desk" / "identity.msgpack"
    content = file.read_bytes()
    file.write_bytes(b"")
    sentence(founder, "desk")
    file.write_bytes(content)
    assert identity_of(founder, "desk").node_id == "desk"
