"""Founding a mesh, taking names in it, and who is running."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.security.makers import (
    ADDRESSES,
    DAY_MS,
    NOW,
    founded,
    identity_of,
    joined,
    sentence,
    verifier_of,
)
from zmesh.errors import ConfigurationError, KeystoreError
from zmesh.security import Claim, Keystore, RunningNode, default_node_name

ROOT = Path(__file__).parents[2]
HOST = default_node_name()


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
    monkeypatch.setattr(socket, "gethostname", lambda: host)
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
