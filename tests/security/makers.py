"""Meshes, nodes and enrolments for the tests of this directory; real keys, real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmesh.errors import KeystoreError
from zmesh.security import Enrolled, Identity, Keystore, Verifier, make_request, open_answer, parse_join_string

NOW = 1_700_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS
ADDRESSES = ("tcp://10.0.0.5:7650",)


def founded(home: Path, mesh: str = "lab", now_ms: int = NOW) -> Keystore:
    keystore = Keystore(home, mesh)
    keystore.found(now_ms)
    return keystore


def identity_of(keystore: Keystore, node_id: str | None = None, *, client: bool = False, now_ms: int = NOW) -> Identity:
    claim = keystore.claim(node_id, client=client, now_ms=now_ms)
    claim.release()
    return claim.identity


def verifier_of(identity: Identity) -> Verifier:
    return Verifier(identity.mesh_id, identity.authority_public)


def enrolled(founder: Keystore, joiner: Keystore, name: str, now_ms: int = NOW) -> Enrolled:
    """The whole exchange between two machines, up to what the joiner stores."""
    invitation = parse_join_string(founder.authority().create_invitation(now_ms, HOUR_MS, ADDRESSES))
    name, keys = joiner.to_enrol(name)
    answer = founder.authority().enrol(make_request(invitation, name, keys), now_ms)
    return open_answer(invitation, keys, answer, now_ms)


def joined(founder: Keystore, home: Path, name: str = "laptop", now_ms: int = NOW) -> Keystore:
    """A second machine, enrolled."""
    joiner = Keystore(home, "lab")
    joiner.save_enrolled(enrolled(founder, joiner, name, now_ms))
    return joiner


def sentence(keystore: Keystore, node_id: str | None = None, *, client: bool = False, now_ms: int = NOW) -> str:
    """What a claim that fails says: one line."""
    with pytest.raises(KeystoreError) as caught:
        keystore.claim(node_id, client=client, now_ms=now_ms)
    assert "\n" not in str(caught.value)
    return str(caught.value)
