"""Chains as bytes: whatever is not exactly what was signed is refused, with ``Refused`` and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tests.security.makers import DAY_MS, NOW, YEAR_MS, founded, identity_of, joined, verifier_of
from zmesh.core.trust import Certificate, rules
from zmesh.errors import Refused
from zmesh.security import CertificateRefused, Identity, Keystore, NodeKeys, verifier
from zmesh.security import certificate as encoding
from zmesh.security.certificate import MAX_CHAIN_BYTES
from zmesh.security.keys import z85_decode


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity_of(founded(tmp_path_factory.mktemp("founder")), "desk")


@pytest.fixture(scope="module")
def laptop_store(tmp_path_factory: pytest.TempPathFactory) -> Keystore:
    return joined(founded(tmp_path_factory.mktemp("founder")), tmp_path_factory.mktemp("joiner"))


@pytest.fixture(scope="module")
def laptop(laptop_store: Keystore) -> Identity:
    return identity_of(laptop_store)


@pytest.fixture(scope="module")
def delegate(laptop_store: Keystore) -> Identity:
    return identity_of(laptop_store, "laptop/2")


def reason(identity: Identity, chain: bytes, now_ms: int = NOW, curve_public: bytes | None = None) -> str:
    with pytest.raises(Refused) as caught:
        verifier_of(identity).verify(chain, now_ms, curve_public or identity.curve_public)
    assert isinstance(caught.value, CertificateRefused)
    return caught.value.reason_code


def test_a_chain_proves_name_keys_and_period(desk: Identity) -> None:
    verified = verifier_of(desk).verify(desk.certificate, NOW, desk.curve_public)
    assert verified.name == desk.node_id == "desk"
    assert verified.curve_public == desk.curve_public
    assert verified.fingerprint == desk.fingerprint
    assert (verified.issuer, verified.serial, verified.roles) == ("", 1, ())
    assert (verified.not_before_ms, verified.not_after_ms) == (NOW, NOW + YEAR_MS)


def test_a_delegated_chain_names_its_issuer_and_fits_a_frame(delegate: Identity) -> None:
    verified = verifier_of(delegate).verify(delegate.certificate, NOW, delegate.curve_public)
    assert (verified.name, verified.issuer) == ("laptop/2", "laptop")
    assert verified.not_after_ms == NOW + 30 * DAY_MS
    assert len(delegate.certificate) < 600


@pytest.mark.parametrize("kind", ["desk", "delegate"])
def test_every_flipped_bit_of_a_chain_is_refused(kind: str, request: pytest.FixtureRequest) -> None:
    identity: Identity = request.getfixturevalue(kind)
    check = verifier_of(identity).verify
    for position in range(len(identity.certificate)):
        for bit in range(8):
            chain = bytearray(identity.certificate)
            chain[position] ^= 1 << bit
            with pytest.raises(Refused):
                check(bytes(chain), NOW)


def test_every_cut_of_a_chain_is_malformed(delegate: Identity) -> None:
    for length in range(len(delegate.certificate)):
        assert reason(delegate, delegate.certificate[:length]) == "malformed"


@given(st.data())
def test_trailing_inserted_and_replaced_bytes_are_refused(delegate: Identity, data: st.DataObject) -> None:
    chain = delegate.certificate
    start = data.draw(st.integers(0, len(chain)))
    end = data.draw(st.integers(start, min(len(chain), start + 8)))
    changed = chain[:start] + data.draw(st.binary(max_size=8)) + chain[end:]
    if changed != chain:
        with pytest.raises(Refused):
            verifier_of(delegate).verify(changed, NOW)


@given(st.binary(max_size=300))
@example(b"\x91" * 4000)  # deep nesting
@example(b"\x91\x92\xc4\x00\xc4\x00")
@example(b"\x92\xc0\xc0")
@example(b"\xdd\xff\xff\xff\xff")  # an array that claims four thousand million elements
@example(b"\x91\x92\xc4\x02\xa1\xff\xc4\x00")  # not UTF-8
def test_any_bytes_are_refused(desk: Identity, garbage: bytes) -> None:
    with pytest.raises(Refused):
        verifier_of(desk).verify(garbage, NOW)


def test_a_large_chain_is_not_even_parsed(desk: Identity) -> None:
    assert reason(desk, desk.certificate + bytes(MAX_CHAIN_BYTES)) == "malformed"


@pytest.mark.parametrize("header", [b"\xc5\x00", b"\xc6\x00\x00\x00"], ids=["bin 16", "bin 32"])
def test_a_longer_encoding_of_the_same_content_is_malformed(desk: Identity, header: bytes) -> None:
    # Only the length's form is changed, which no signature covers; any MessagePack decoder reads the same content.
    changed = desk.certificate[:2] + header + desk.certificate[3:]
    assert msgpack.unpackb(changed) == msgpack.unpackb(desk.certificate)
    assert reason(desk, changed) == "malformed"


def test_a_body_that_was_signed_in_a_longer_encoding_is_malformed(
    laptop: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = encoding.decode_chain(laptop.certificate)[0]
    leaf = replace(root.certificate, name="laptop/2", issuer="laptop", not_after_ms=NOW + DAY_MS)
    body = encoding.sign(leaf, laptop.signing_seed).signed_bytes.removeprefix(encoding._CONTEXT)
    position = body.index(b"\xc4\x20")
    longer = body[:position] + b"\xc5\x00\x20" + body[position + 2 :]
    assert msgpack.unpackb(longer) == msgpack.unpackb(body)
    signature = SigningKey(laptop.signing_seed).sign(encoding._CONTEXT + longer).signature
    chain = msgpack.packb([[longer, signature], msgpack.unpackb(laptop.certificate)[0]])
    assert reason(laptop, chain) == "malformed"


@settings(max_examples=50)
@given(st.lists(st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.lists(st.none())), max_size=12))
def test_a_body_of_other_types_is_refused(desk: Identity, fields: list[object]) -> None:
    try:
        body = msgpack.packb(fields)
    except OverflowError:
        return  # MessagePack has no such integer
    with pytest.raises(Refused):
        verifier_of(desk).verify(msgpack.packb([[body, bytes(64)]]), NOW)


def test_the_reasons(desk: Identity, delegate: Identity) -> None:
    assert reason(desk, delegate.certificate) == "other_mesh"
    assert reason(desk, desk.certificate, NOW + YEAR_MS + 1) == "expired"
    assert reason(desk, desk.certificate, NOW - 2 * DAY_MS) == "not_yet_valid"
    assert reason(desk, desk.certificate, curve_public=delegate.curve_public) == "wrong_key"
    assert reason(desk, desk.certificate[:-1] + bytes([desk.certificate[-1] ^ 1])) == "forged"
    assert reason(desk, b"") == "malformed"


def test_an_impostor_authority_is_forged_even_under_the_right_mesh_id(desk: Identity, tmp_path: Path) -> None:
    impostor = identity_of(founded(tmp_path), "desk")
    checker = verifier.Verifier(impostor.mesh_id, desk.authority_public)
    with pytest.raises(CertificateRefused) as caught:
        checker.verify(impostor.certificate, NOW)
    assert caught.value.reason_code == "forged"


def test_a_signature_for_another_purpose_is_none_here(desk: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_CONTEXT", b"zmesh something else\0")
    verifier._prove.cache_clear()  # what was proved by the tests before
    assert reason(desk, desk.certificate) == "forged"


@pytest.mark.parametrize("offset_ms", [-DAY_MS, DAY_MS])
def test_a_clock_off_by_a_day_works(offset_ms: int, tmp_path: Path) -> None:
    founder = founded(tmp_path / "founder")
    laptop = joined(founder, tmp_path / "joiner")  # enrolled while its clock was right
    for client in (False, True):
        identity = identity_of(laptop, client=client, now_ms=NOW + offset_ms)
        check = verifier_of(identity).verify
        assert check(identity.certificate, NOW, identity.curve_public).name == identity.node_id
        assert check(identity_of(founder).certificate, NOW + offset_ms).issuer == ""


# -- what was found genuine is remembered: that, and nothing like it ---------------------------------------------------


def test_a_chain_that_was_found_genuine_is_not_checked_again_but_for_its_dates(delegate: Identity) -> None:
    check = verifier_of(delegate).verify
    verifier._prove.cache_clear()
    assert check(delegate.certificate, NOW) == check(delegate.certificate, NOW, delegate.curve_public)
    assert verifier._prove.cache_info()[:2] == (1, 1), "one hit, one miss"
    assert reason(delegate, delegate.certificate, NOW + 30 * DAY_MS + 1) == "expired"
    assert reason(delegate, delegate.certificate, NOW - 2 * DAY_MS) == "not_yet_valid"
    assert reason(delegate, delegate.certificate, curve_public=b"x" * 40) == "wrong_key"
    assert verifier._prove.cache_info()[:2] == (4, 1), "those were refused by what was remembered"
    assert check(delegate.certificate, NOW).name == delegate.node_id, "and a good time makes it good again"


def test_a_chain_is_genuine_for_its_own_mesh_and_authority_alone(desk: Identity, laptop: Identity) -> None:
    assert verifier_of(desk).verify(desk.certificate, NOW).name == "desk"
    elsewhere = [
        verifier.Verifier(laptop.mesh_id, laptop.authority_public),
        verifier.Verifier(desk.mesh_id, laptop.authority_public),
    ]
    assert [refusal_of(checker, desk.certificate) for checker in elsewhere] == ["other_mesh", "forged"]


def refusal_of(checker: verifier.Verifier, chain: bytes) -> str:
    with pytest.raises(CertificateRefused) as caught:
        checker.verify(chain, NOW)
    return caught.value.reason_code


def test_a_memory_by_the_chain_alone_would_let_any_mesh_in(
    desk: Identity, laptop: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ablation of the key that the memory has."""
    prove, known = verifier._prove, dict[bytes, tuple[Certificate, verifier.VerifiedCertificate]]()

    def careless(chain: bytes, mesh_id: str, authority: bytes) -> tuple[Certificate, verifier.VerifiedCertificate]:
        if chain not in known:
            known[chain] = prove(chain, mesh_id, authority)
        return known[chain]

    monkeypatch.setattr(verifier, "_prove", careless)
    assert verifier_of(desk).verify(desk.certificate, NOW).name == "desk"
    assert verifier_of(laptop).verify(desk.certificate, NOW).name == "desk", "a node of another mesh"


def test_a_chain_that_was_refused_is_not_remembered(desk: Identity) -> None:
    forged = desk.certificate[:-1] + bytes([desk.certificate[-1] ^ 1])
    before = verifier._prove.cache_info().currsize
    assert [reason(desk, forged) for _ in range(2)] == ["forged"] * 2
    assert verifier._prove.cache_info().currsize == before


def test_the_memory_of_chains_is_bounded() -> None:
    assert verifier._prove.cache_info().maxsize == verifier.MAX_REMEMBERED


# -- what each check is worth: without it, the bad thing gets through ------------------------------------------------


def test_without_the_signature_check_a_changed_key_gets_through(
    desk: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief = NodeKeys.generate()
    link = encoding.decode_chain(desk.certificate)[0]
    stolen = replace(link.certificate, curve_key=z85_decode(thief.curve_public))
    forged = encoding.encode_chain([replace(encoding.sign(stolen, thief.signing_seed), signature=link.signature)])
    assert reason(desk, forged, curve_public=thief.curve_public) == "forged"
    monkeypatch.setattr(verifier, "is_genuine", lambda *_: True)
    assert verifier_of(desk).verify(forged, NOW, thief.curve_public).name == "desk"


def test_without_the_key_check_a_stolen_certificate_gets_through(
    desk: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief = NodeKeys.generate()
    assert reason(desk, desk.certificate, curve_public=thief.curve_public) == "wrong_key"
    monkeypatch.setattr(verifier, "_check_key", lambda *_: None)
    assert verifier_of(desk).verify(desk.certificate, NOW, thief.curve_public).name == "desk"


def test_without_the_expiry_check_an_old_certificate_gets_through(
    desk: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reason(desk, desk.certificate, NOW + 2 * YEAR_MS) == "expired"
    monkeypatch.setattr(rules, "_check_not_expired", lambda *_: None)
    assert verifier_of(desk).verify(desk.certificate, NOW + 2 * YEAR_MS).name == "desk"


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("_check_delegated_name", {"name": "desk/2"}),
        ("_check_delegated_name", {"name": "laptop2"}),
        ("_check_delegated_period", {"not_after_ms": NOW + 31 * DAY_MS}),
        ("_check_delegated_period", {"not_before_ms": NOW - DAY_MS}),
        ("_check_delegated_roles", {"roles": ("operator",)}),
    ],
    ids=str,
)
def test_without_a_rule_of_delegation_a_greedy_node_gets_through(
    laptop: Identity, monkeypatch: pytest.MonkeyPatch, rule: str, changes: dict[str, object]
) -> None:
    root = encoding.decode_chain(laptop.certificate)[0]
    keys = NodeKeys.generate()
    leaf = replace(
        root.certificate,
        name="laptop/2",
        issuer="laptop",
        not_after_ms=NOW + DAY_MS,
        curve_key=z85_decode(keys.curve_public),
        signing_key=keys.signing_public,
    )
    honest = encoding.encode_chain([encoding.sign(leaf, laptop.signing_seed), root])
    assert verifier_of(laptop).verify(honest, NOW, keys.curve_public).name == "laptop/2"
    greedy_leaf = replace(leaf, **changes)  # type: ignore[arg-type]
    greedy = encoding.encode_chain([encoding.sign(greedy_leaf, laptop.signing_seed), root])
    assert reason(laptop, greedy, curve_public=keys.curve_public) == "forged"
    monkeypatch.setattr(rules, rule, lambda *_: None)
    assert verifier_of(laptop).verify(greedy, NOW, keys.curve_public).name == greedy_leaf.name
