"""No secret shows in ``repr``, ``str``, logs, exceptions or pickles of anything that holds one."""

from __future__ import annotations

import base64
import copy
import dataclasses
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.security.makers import ADDRESSES, HOUR_MS, NOW, founded, identity_of, joined
from zmesh.errors import NetworkError
from zmesh.security import (
    EnrolAnswer,
    Enrolled,
    Identity,
    Keystore,
    NodeKeys,
    make_request,
    masking,
    open_answer,
    parse_join_string,
)
from zmesh.security import invitation as invitations
from zmesh.security.keys import z85_decode
from zmesh.security.ledger import Ledger
from zmesh.security.nodes import StoredNode
from zmesh.security.stored import AuthorityFile, IdentityFile, MeshFile, load


class Held:
    """One of everything that holds secrets, and the secrets."""

    def __init__(self, tmp_path: Path) -> None:
        self.founder = founded(tmp_path / "founder")
        self.join_string = self.founder.authority().create_invitation(NOW, HOUR_MS, ADDRESSES)
        self.invitation = parse_join_string(self.join_string)
        self.keys = NodeKeys.generate()
        answer = self.founder.authority().enrol(make_request(self.invitation, "laptop", self.keys), NOW)
        self.enrolled = open_answer(self.invitation, self.keys, answer, NOW)
        self.claim = self.founder.claim("desk", client=False, now_ms=NOW)
        self.claim.release()
        self.identity = self.claim.identity
        directory = tmp_path / "founder" / "lab"
        self.mesh = load(directory / "mesh.msgpack", MeshFile)
        self.authority_file = load(directory / "authority" / "key.msgpack", AuthorityFile)
        self.identity_file = load(directory / "nodes" / "desk" / "identity.msgpack", IdentityFile)
        with Ledger(directory / "authority").transaction(NOW) as self.ledger:
            self.open_invitation = next(iter(self.ledger.invitations.values()))

    def holders(self) -> list[object]:
        return [
            self.identity,
            self.claim,
            self.keys,
            self.invitation,
            self.enrolled,
            StoredNode("laptop", self.keys, b""),
            self.founder,
            self.founder.authority(),
            self.mesh,
            self.authority_file,
            self.identity_file,
            self.ledger,
            self.open_invitation,
        ]

    def secrets(self) -> list[bytes]:
        assert self.authority_file is not None
        raw = [
            self.identity.signing_seed,
            self.keys.signing_seed,
            self.authority_file.signing_seed,
            self.invitation.secret,
        ]
        z85 = [self.identity.curve_secret, self.keys.curve_secret, self.identity.gate_secret]
        return [*raw, *z85, *(z85_decode(key) for key in z85)]

    def shown_in(self, text: str) -> bool:
        return any(form in text for secret in self.secrets() for form in _forms(secret)) or self.join_string in text


def _forms(secret: bytes) -> Iterator[str]:
    yield repr(secret)[2:-1]
    yield repr(bytearray(secret))[12:-2]
    yield secret.hex()
    yield base64.b64encode(secret).decode().rstrip("=")
    yield secret.decode("latin-1")


def _said(error: BaseException | None) -> str:
    """All that an exception and those behind it would print."""
    text = ""
    while error is not None:
        text += f"{error!r} {error} {error.args!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__
    return text


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path)


def test_no_secret_is_in_repr_or_str_or_logs(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    for holder in held.holders():
        logging.getLogger("test").warning("%r %s %s", holder, holder, [holder])
        assert not held.shown_in(f"{holder!r} {holder} {[holder]}"), type(holder)
    assert len(caplog.records) == len(held.holders())
    assert not held.shown_in(caplog.text)


def test_the_check_above_would_notice(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in held.secrets():
        assert held.shown_in(f"oops {secret!r}")
        assert held.shown_in(f"oops {secret.hex()}")
    monkeypatch.delattr(masking.HoldsSecrets, "__repr__")
    assert held.shown_in(repr(held.authority_file))


def test_what_holds_secrets_cannot_be_pickled_or_deep_copied(held: Held) -> None:
    for holder in held.holders():
        if isinstance(holder, Keystore):
            continue  # paths only, so there is nothing to refuse
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(holder, protocol)
        with pytest.raises(TypeError, match="cannot be pickled"):
            copy.deepcopy(holder)
    assert not any(secret in pickle.dumps(held.founder) for secret in held.secrets())


def test_an_identity_shows_its_name_mesh_and_fingerprint(held: Held) -> None:
    identity = held.identity
    assert repr(identity) == f"Identity(node_id='desk', mesh='lab', fingerprint='{identity.fingerprint}')"


def test_an_identity_cannot_be_changed(held: Held) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        held.identity.node_id = "other"  # type: ignore[misc]  # that is the test


def test_every_class_with_a_secret_field_is_masked() -> None:
    """A new class in the package cannot forget the base."""
    named = {"secret", "curve_secret", "gate_secret", "signing_seed", "keys"}
    modules = [Identity, NodeKeys, Enrolled, invitations.Invitation, StoredNode, MeshFile, AuthorityFile, IdentityFile]
    for kind in [*modules, *vars(invitations).values()]:
        if isinstance(kind, type) and named & set(getattr(kind, "__annotations__", {})):
            assert issubclass(kind, masking.HoldsSecrets), kind
            assert issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind), kind


def test_a_damaged_join_string_is_not_quoted(held: Held) -> None:
    for position in range(len(held.join_string)):
        changed = held.join_string[:position] + "!" + held.join_string[position + 1 :]
        with pytest.raises(NetworkError) as caught:
            parse_join_string(changed)
        said = _said(caught.value)
        assert not held.shown_in(said)
        assert changed[:20] not in said


def test_errors_of_the_key_directory_quote_no_key(held: Held, tmp_path: Path) -> None:
    for file in sorted((tmp_path / "founder").rglob("*.msgpack")):
        content = file.read_bytes()
        for position in range(0, len(content), 5):
            file.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
            with pytest.raises(NetworkError) as caught:
                held.founder.claim("desk" if "nodes" in file.parts else "new", client=False, now_ms=NOW)
            assert not held.shown_in(_said(caught.value))
        file.write_bytes(content)


def test_errors_of_an_enrolment_quote_no_key(held: Held, tmp_path: Path) -> None:
    other = joined(held.founder, tmp_path / "joiner")
    sealed_garbage = invitations.seal_answer(b"x", held.identity.gate_secret, held.keys.curve_public)
    attempts: list[Callable[[], object]] = [
        lambda: open_answer(held.invitation, held.keys, EnrolAnswer(b"x" * 100), NOW),
        lambda: open_answer(held.invitation, held.keys, sealed_garbage, NOW),
        lambda: held.founder.authority().enrol(make_request(held.invitation, "x", NodeKeys.generate()), NOW),
        other.authority,
        lambda: identity_of(other, "desk"),
    ]
    for attempt in attempts:
        with pytest.raises(NetworkError) as caught:
            attempt()
        assert not held.shown_in(_said(caught.value))
