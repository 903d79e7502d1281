"""What a damaged, foreign, open or unwritable directory says: one sentence that names the path and the remedy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.security.makers import (
    ADDRESSES,
    NOW,
    founded,
    identity_of,
    sentence,
)
from zmesh.errors import KeystoreError
from zmesh.security import Claim, Keystore, NodeKeys, default_node_name
from zmesh.security.keys import signing_public_of
from zmesh.security.stored import IdentityFile, save

HOST = default_node_name()


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


@pytest.mark.parametrize("part", ["", "lab", "lab/authority"])
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


def test_a_certificate_for_another_name_or_key_than_its_bearers_is_told(founder: Keystore, tmp_path: Path) -> None:
    desk = identity_of(founder, "desk")
    signing_public, other = signing_public_of(desk.signing_seed), NodeKeys.generate()
    certificates = [
        founder.authority().issue("chair", desk.curve_public, signing_public, NOW),
        founder.authority().issue("stool", desk.curve_public, other.signing_public, NOW),
    ]
    file = tmp_path / "founder" / "lab" / "nodes" / "desk" / "identity.msgpack"
    for name, certificate in (("desk", certificates[0]), ("stool", certificates[1])):
        path = file if name == "desk" else file.parents[1] / "stool" / file.name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        save(path, IdentityFile(name, desk.curve_secret, desk.signing_seed, certificate))
        assert f"the certificate of {name!r} here is not for its keys" in sentence(founder, name)


def test_a_failed_claim_frees_the_name(founder: Keystore, tmp_path: Path) -> None:
    identity_of(founder, "desk")
    file = tmp_path / "founder" / "lab" / "nodes" / "desk" / "identity.msgpack"
    content = file.read_bytes()
    file.write_bytes(b"")
    sentence(founder, "desk")
    file.write_bytes(content)
    assert identity_of(founder, "desk").node_id == "desk"
