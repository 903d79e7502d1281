"""Keys are the ones that ZeroMQ means, and the names derived from them are the specified ones."""

from __future__ import annotations

import hashlib

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from zmesh.security import NodeKeys, fingerprint_of
from zmesh.security.keys import curve_public_of, holder_of, mesh_id_of, new_curve_secret, z85_decode, z85_encode

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS)
def test_z85_is_the_one_of_zeromq(key: bytes) -> None:
    assert z85_encode(key) == z85.encode(key)
    assert z85_decode(z85_encode(key)) == key


@pytest.mark.parametrize(
    "text", [b"", b"a" * 39, b"a" * 41, b"~" * 40, b" " * 40, b"#" * 40, b"\xff" * 40, b"a" * 39 + b"\n"], ids=repr
)
def test_what_is_no_key_in_z85_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"Z85|overflow"):
        z85_decode(text)


def test_a_made_key_pair_is_a_curve_key_pair() -> None:
    secret = new_curve_secret()
    assert curve_public_of(secret) == zmq.curve_public(secret)


def test_keys_are_never_made_twice() -> None:
    first, second = NodeKeys.generate(), NodeKeys.generate()
    assert first.curve_public != second.curve_public
    assert first.signing_public != second.signing_public


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_of_another_size_is_a_value_error(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        NodeKeys(curve_secret=new_curve_secret(), signing_seed=bytes(size))


def test_a_fingerprint_is_the_start_of_the_keys_hash() -> None:
    key = bytes(range(32))
    digest = hashlib.blake2b(key).hexdigest().upper()
    assert fingerprint_of(z85_encode(key)) == "-".join(digest[i : i + 4] for i in range(0, 20, 4))


def test_a_mesh_id_is_the_start_of_the_authority_keys_hash() -> None:
    assert mesh_id_of(bytes(32)) == hashlib.blake2b(bytes(32)).hexdigest()[:32]


def test_a_holder_is_both_of_its_keys() -> None:
    first, second = NodeKeys.generate(), NodeKeys.generate()
    pairs = [(curve.curve_public, sign.signing_public) for curve in (first, second) for sign in (first, second)]
    assert len({holder_of(*pair) for pair in pairs}) == 4
