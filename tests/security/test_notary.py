"""Statements of membership are signed and checked with real keys and certificates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from zmesh.core.membership.member import Contact

from tests.security.makers import NOW, YEAR_MS, founded, identity_of, joined, verifier_of
from zmesh.core.membership.statements import Accusation, Alive, Charge, Left, signed
from zmesh.security import Identity, NodeNotary


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> list[Identity]:
    founder = founded(tmp_path_factory.mktemp("founder"))
    return [identity_of(founder, "desk"), identity_of(joined(founder, tmp_path_factory.mktemp("joiner")))]


def notary_of(identity: Identity, now_ms: int = NOW) -> NodeNotary:
    return NodeNotary(identity, verifier_of(identity), lambda: now_ms)


def alive(identity: Identity) -> Alive:
    contact = Contact(identity.node_id, NOW, ("10.0.0.5",), 7650, "m1")
    return signed(Alive(contact, 0, 1, b"h" * 16, identity.certificate), notary_of(identity))


def test_what_a_node_signs_another_verifies(nodes: list[Identity]) -> None:
    desk, laptop = nodes
    author = alive(laptop)
    accusation = signed(Accusation("laptop", "desk", NOW, 0, Charge.SILENT), notary_of(laptop))
    left = signed(Left("laptop", NOW), notary_of(laptop))
    assert all(notary_of(desk).verify(author, statement) for statement in (author, accusation, left))


def test_what_was_changed_or_signed_by_another_does_not_verify(nodes: list[Identity]) -> None:
    desk, laptop = nodes
    author, notary = alive(laptop), notary_of(desk)
    moved = replace(author, contact=replace(author.contact, hosts=("10.6.6.6",)))
    forged = signed(Left("laptop", NOW), notary_of(desk))
    assert not notary.verify(moved, moved)
    assert not notary.verify(replace(author, life=1), replace(author, life=1))
    assert not notary.verify(author, forged)
    assert not notary.verify(author, replace(forged, signature=b"short"))


def test_a_certificate_of_another_name_does_not_count(nodes: list[Identity]) -> None:
    desk, laptop = nodes
    unsigned = replace(alive(laptop), contact=replace(alive(laptop).contact, node_id="desk"))
    assert not notary_of(desk).verify(unsigned, signed(unsigned, notary_of(laptop)))


def test_a_certificate_of_another_mesh_or_out_of_date_does_not_count(nodes: list[Identity], tmp_path: Path) -> None:
    desk, laptop = nodes
    stranger = identity_of(founded(tmp_path / "other"), "desk")
    assert not notary_of(laptop).verify(alive(stranger), alive(stranger))
    author = alive(laptop)
    assert not notary_of(desk, NOW + YEAR_MS + 1).verify(author, author)


def test_a_certificate_that_has_been_checked_still_expires(nodes: list[Identity]) -> None:
    desk, laptop = nodes
    clock = [NOW]
    notary = NodeNotary(desk, verifier_of(desk), lambda: clock[0])
    assert notary.verify(alive(laptop), alive(laptop))
    clock[0] += YEAR_MS + 1
    assert not notary.verify(alive(laptop), alive(laptop))
