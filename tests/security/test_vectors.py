"""The test vectors of docs/spec/04-trust.md: made again here, and read by other decoders than ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from pathlib import Path

import msgpack
import pytest
from nacl.signing import VerifyKey

from zmesh.core.trust.certificate import Certificate
from zmesh.security import Invitation, NodeKeys, Verifier, fingerprint_of, make_request, parse_join_string
from zmesh.security.certificate import encode_chain, sign
from zmesh.security.invitation import make_join_string
from zmesh.security.keys import curve_public_of, mesh_id_of, signing_public_of, z85_decode, z85_encode

SPEC = Path(__file__).parents[2] / "docs" / "spec" / "04-trust.md"
START = 1_700_000_000_000
DAY_MS = 86_400_000
ADDRESSES = ("tcp://10.0.0.5:7650", "tcp://[fd00::2]:7650")


@pytest.fixture(scope="module")
def vectors() -> dict[str, str]:
    block = SPEC.read_text(encoding="utf-8").split("```text\n")[-1].split("```")[0]
    entries = re.findall(r"^(\w+) =((?:\s+\S+)+?)(?=\n\w+ =|\s*\Z)", block, re.MULTILINE)
    return {name: "".join(value.split()) for name, value in entries}


def raw(vectors: dict[str, str], name: str) -> bytes:
    return bytes.fromhex(vectors[name])


def keys(vectors: dict[str, str], owner: str) -> NodeKeys:
    return NodeKeys(
        curve_secret=z85_encode(raw(vectors, f"{owner}_curve_secret")),
        signing_seed=raw(vectors, f"{owner}_signing_seed"),
    )


def test_the_page_has_every_vector(vectors: dict[str, str]) -> None:
    assert len(vectors) == 18


def test_derived_keys_and_names(vectors: dict[str, str]) -> None:
    node = keys(vectors, "node")
    authority_public = signing_public_of(raw(vectors, "authority_seed"))
    assert authority_public == raw(vectors, "authority_public")
    assert mesh_id_of(authority_public) == vectors["mesh_id"]
    assert z85_decode(node.curve_public) == raw(vectors, "node_curve_public")
    assert node.curve_public.decode() == vectors["node_curve_public_z85"]
    assert node.signing_public == raw(vectors, "node_signing_public")
    assert fingerprint_of(node.curve_public) == vectors["node_fingerprint"]


def test_the_chains_are_made_again(vectors: dict[str, str]) -> None:
    node, delegate = keys(vectors, "node"), keys(vectors, "delegate")
    root = Certificate(
        mesh_id=vectors["mesh_id"],
        name="desk",
        serial=7,
        curve_key=z85_decode(node.curve_public),
        signing_key=node.signing_public,
        issuer="",
        not_before_ms=START,
        not_after_ms=START + 365 * DAY_MS,
    )
    leaf = Certificate(
        mesh_id=vectors["mesh_id"],
        name="desk/2",
        serial=72623859790382856,
        curve_key=z85_decode(delegate.curve_public),
        signing_key=delegate.signing_public,
        issuer="desk",
        not_before_ms=START + 1000,
        not_after_ms=START + 1000 + 30 * DAY_MS,
    )
    signed_root = sign(root, raw(vectors, "authority_seed"))
    assert encode_chain([signed_root]).hex() == vectors["node_chain"]
    assert encode_chain([sign(leaf, node.signing_seed), signed_root]).hex() == vectors["delegated_chain"]


def test_the_chains_verify(vectors: dict[str, str]) -> None:
    verifier = Verifier(vectors["mesh_id"], raw(vectors, "authority_public"))
    for name, owner, chain in (("desk", "node", "node_chain"), ("desk/2", "delegate", "delegated_chain")):
        verified = verifier.verify(raw(vectors, chain), START + 2000, keys(vectors, owner).curve_public)
        assert verified.name == name


def test_another_decoder_reads_the_chain_as_the_page_says(vectors: dict[str, str]) -> None:
    (leaf, leaf_signature), (root, root_signature) = msgpack.unpackb(raw(vectors, "delegated_chain"))
    assert msgpack.unpackb(leaf)[:3] == [vectors["mesh_id"], "desk/2", 72623859790382856]
    assert msgpack.unpackb(leaf)[5:] == ["desk", START + 1000, START + 1000 + 30 * DAY_MS, []]
    assert msgpack.unpackb(root)[1:] == [
        "desk",
        7,
        raw(vectors, "node_curve_public"),
        raw(vectors, "node_signing_public"),
        "",
        START,
        START + 365 * DAY_MS,
        [],
    ]
    context = b"zmesh certificate 1\0"
    VerifyKey(raw(vectors, "authority_public")).verify(context + root, root_signature)
    VerifyKey(raw(vectors, "node_signing_public")).verify(context + leaf, leaf_signature)


def test_another_encoder_makes_the_same_bytes(vectors: dict[str, str]) -> None:
    links = msgpack.unpackb(raw(vectors, "delegated_chain"))
    again = [[msgpack.packb(msgpack.unpackb(body)), signature] for body, signature in links]
    assert msgpack.packb(again) == raw(vectors, "delegated_chain")


def test_the_join_string_is_made_again_and_read(vectors: dict[str, str]) -> None:
    gate_public = curve_public_of(z85_encode(raw(vectors, "gate_secret")))
    invitation = Invitation(
        addresses=ADDRESSES,
        gate_public=gate_public,
        authority_public=raw(vectors, "authority_public"),
        mesh="lab",
        mesh_id=vectors["mesh_id"],
        invitation_id=raw(vectors, "invitation_id"),
        secret=raw(vectors, "invitation_secret"),
        expires_ms=START + 3_600_000,
    )
    assert make_join_string(invitation) == vectors["join_string"]
    parsed = parse_join_string(vectors["join_string"])
    assert parsed == invitation
    assert parsed.secret == invitation.secret


def test_another_decoder_reads_the_join_string_as_the_page_says(vectors: dict[str, str]) -> None:
    encoded = vectors["join_string"].removeprefix("zmesh1.")
    data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    assert data[-4:] == hashlib.blake2b(data[:-4]).digest()[:4]
    addresses, _gate, authority, mesh, invitation_id, secret, expires_ms = msgpack.unpackb(data[:-4])
    assert (tuple(addresses), mesh, expires_ms) == (ADDRESSES, "lab", START + 3_600_000)
    assert authority == raw(vectors, "authority_public")
    assert (invitation_id, secret) == (raw(vectors, "invitation_id"), raw(vectors, "invitation_secret"))


def test_the_proof_is_the_hmac_that_the_page_says(vectors: dict[str, str]) -> None:
    joiner = keys(vectors, "delegate")
    request = make_request(parse_join_string(vectors["join_string"]), "laptop", joiner)
    assert request.proof.hex() == vectors["enrol_proof"]
    covered = msgpack.packb(
        ["zmesh enrol 1", request.invitation_id, "laptop", z85_decode(joiner.curve_public), joiner.signing_public]
    )
    assert hmac.digest(raw(vectors, "invitation_secret"), covered, "sha256").hex() == vectors["enrol_proof"]
