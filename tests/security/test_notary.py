"""Statements of membership are signed and checked with real keys and certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from nacl.exceptions import BadSignatureError

from tests.security.makers import NOW, YEAR_MS, founded, identity_of, joined, verifier_of
from zmesh.core.membership.member import Contact
from zmesh.core.membership.statements import Accusation, Alive, Charge, Left, signed
from zmesh.security import Identity, NodeNotary, notary
from zmesh.security.keys import signing_public_of


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


# -- what was found genuine is remembered: that, and nothing like it ---------------------------------------------------


def flipped(data: bytes) -> list[bytes]:
    """The data with one bit of one byte changed, for each byte."""
    return [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]


def accepted(author: Identity, payload: bytes, signature: bytes) -> bool:
    try:
        notary._check_signature(signing_public_of(author.signing_seed), payload, signature)
    except BadSignatureError:
        return False
    return True


def changes_that_pass(author: Identity, other: Identity) -> list[str]:
    """Which changes of a statement that was found genuine pass, each tried twice: no refusal may count as good."""
    statement = alive(author)
    payload, signature = statement.payload(), statement.signature
    assert accepted(author, payload, signature)
    passed = {
        "payload": any(accepted(author, changed, signature) for changed in flipped(payload) * 2),
        "signature": any(accepted(author, payload, changed) for changed in flipped(signature) * 2),
        "author": any(accepted(other, payload, signature) for _ in range(2)),
    }
    return [change for change, has_passed in passed.items() if has_passed]


def test_a_statement_that_was_found_genuine_is_not_checked_again(nodes: list[Identity]) -> None:
    desk, laptop = nodes
    statement = signed(Left("laptop", NOW + 1), notary_of(laptop))
    before = notary._check_signature.cache_info()
    assert [notary_of(desk).verify(alive(laptop), statement) for _ in range(3)] == [True] * 3
    after = notary._check_signature.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)


def test_one_that_differs_by_a_bit_or_is_of_another_author_is_refused(nodes: list[Identity]) -> None:
    desk, laptop = nodes
    assert changes_that_pass(laptop, desk) == []


@pytest.mark.parametrize(
    ("remembered", "passes"),
    [
        (lambda key, payload, signature: signature, ["payload", "author"]),
        (lambda key, payload, signature: (key, payload), ["signature"]),
        (lambda key, payload, signature: (payload, signature), ["author"]),
    ],
    ids=["by signature", "by payload", "of anybody"],
)
def test_what_is_remembered_by_less_than_all_of_it_lets_forgeries_through(
    nodes: list[Identity],
    monkeypatch: pytest.MonkeyPatch,
    remembered: Callable[[bytes, bytes, bytes], object],
    passes: list[str],
) -> None:
    """The ablations of the key that the memory has."""
    desk, laptop = nodes
    check, good = notary._check_signature, set[object]()

    def careless(key: bytes, payload: bytes, signature: bytes) -> None:
        if remembered(key, payload, signature) not in good:
            check(key, payload, signature)
            good.add(remembered(key, payload, signature))

    monkeypatch.setattr(notary, "_check_signature", careless)
    assert changes_that_pass(laptop, desk) == passes


def test_the_memory_of_statements_is_bounded() -> None:
    assert notary._check_signature.cache_info().maxsize == notary.MAX_REMEMBERED
