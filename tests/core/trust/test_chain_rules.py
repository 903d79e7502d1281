"""Each rule of docs/spec/04-trust.md section 3: kept, broken, and shown to matter by switching it off."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace

import pytest

from zmesh.config import NAME_PATTERN as CONFIG_NAME_PATTERN
from zmesh.core.trust import (
    CLOCK_GRACE_MS,
    MAX_DELEGATED_LIFE_MS,
    Certificate,
    CertificateRefused,
    RefusalReason,
    SignedCertificate,
    check_chain,
    rules,
)
from zmesh.core.trust.certificate import NAME_PATTERN
from zmesh.errors import Refused

MESH = "0123456789abcdef0123456789abcdef"
AUTHORITY_KEY = b"A" * 32
NODE_KEY = b"N" * 32
LEAF_KEY = b"L" * 32
DAY_MS = 86_400_000
START = 1_700_000_000_000
NOW = START + 10 * DAY_MS
END = START + 365 * DAY_MS

NODE = Certificate(MESH, "desk", 1, b"c" * 32, NODE_KEY, "", START, END, ("voter", "gateway"))
LEAF = Certificate(MESH, "desk/2", 2, b"d" * 32, LEAF_KEY, "desk", NOW, NOW + MAX_DELEGATED_LIFE_MS, ("voter",))


def signature_of(key: bytes, signed_bytes: bytes) -> bytes:
    """A stand-in for Ed25519 that is as deterministic: the signer's key, then the start of what was signed."""
    return key + signed_bytes[:32].ljust(32, b"\0")


def is_genuine(key: bytes, signed_bytes: bytes, signature: bytes) -> bool:
    return signature == signature_of(key, signed_bytes)


def signed(certificate: Certificate, key: bytes) -> SignedCertificate:
    signed_bytes = repr(certificate).encode()
    return SignedCertificate(certificate, signed_bytes, signature_of(key, signed_bytes))


def chain_of(leaf: Certificate | None, node: Certificate = NODE) -> list[SignedCertificate]:
    root = signed(node, AUTHORITY_KEY)
    return [root] if leaf is None else [signed(leaf, node.signing_key), root]


def verdict(links: Sequence[SignedCertificate], now_ms: int = NOW) -> Certificate:
    return check_chain(links, mesh_id=MESH, authority_public=AUTHORITY_KEY, now_ms=now_ms, is_genuine=is_genuine)


def refusal(links: Sequence[SignedCertificate], now_ms: int = NOW) -> str:
    with pytest.raises(CertificateRefused) as caught:
        verdict(links, now_ms)
    assert str(caught.value)
    return caught.value.reason_code


def test_a_node_certified_by_the_authority_is_believed() -> None:
    assert verdict(chain_of(None)) == NODE


def test_a_name_delegated_by_such_a_node_is_believed() -> None:
    assert verdict(chain_of(LEAF)) == LEAF


@pytest.mark.parametrize("count", [0, 3])
def test_a_chain_has_one_or_two_links(count: int) -> None:
    assert refusal([signed(NODE, AUTHORITY_KEY)] * count) == "malformed"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "/2"},
        {"name": "desk/2/3"},
        {"name": "desk\n"},
        {"name": "d" * 64},
        {"curve_key": b"c" * 31},
        {"signing_key": b"s" * 33},
        {"not_before_ms": -1},
        {"not_before_ms": END},
        {"not_after_ms": 1 << 63},
        {"serial": -1},
        {"serial": 1 << 63},
        {"roles": ("r",) * 17},
        {"roles": ("r" * 65,)},
    ],
    ids=str,
)
def test_a_certificate_with_impossible_fields_is_malformed(changes: dict[str, object]) -> None:
    assert refusal(chain_of(None, replace(NODE, **changes))) == "malformed"  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_size_is_malformed(size: int) -> None:
    link = replace(signed(NODE, AUTHORITY_KEY), signature=b"s" * size)
    assert refusal([link]) == "malformed"


@pytest.mark.parametrize(("now_ms", "code"), [(END + 1, "expired"), (START - CLOCK_GRACE_MS - 1, "not_yet_valid")])
def test_what_a_chain_claims_may_be_remembered_and_its_period_not(now_ms: int, code: str) -> None:
    """``check_claims`` knows no clock: whoever remembers what it found must ask ``check_period`` each time."""
    claims = {"mesh_id": MESH, "authority_public": AUTHORITY_KEY, "is_genuine": is_genuine}
    leaf = rules.check_claims(chain_of(None), **claims)  # type: ignore[arg-type]  # a dictionary has one type of value
    assert leaf == NODE
    rules.check_period(leaf, NOW)
    with pytest.raises(CertificateRefused) as caught:
        rules.check_period(leaf, now_ms)
    assert caught.value.reason_code == code == refusal(chain_of(None), now_ms)


def test_a_certificate_of_another_mesh_is_told_apart_from_a_forged_one() -> None:
    other = replace(NODE, mesh_id="f" * 32)
    assert refusal([signed(other, b"B" * 32)]) == "other_mesh"
    assert refusal([signed(replace(LEAF, mesh_id="f" * 32), NODE_KEY), signed(NODE, AUTHORITY_KEY)]) == "other_mesh"


def test_a_certificate_that_the_authority_did_not_sign_is_forged() -> None:
    assert refusal([signed(NODE, b"B" * 32)]) == "forged"


def test_a_delegated_certificate_that_its_issuer_did_not_sign_is_forged() -> None:
    assert refusal([signed(LEAF, AUTHORITY_KEY), signed(NODE, AUTHORITY_KEY)]) == "forged"
    assert refusal([signed(LEAF, LEAF_KEY), signed(NODE, AUTHORITY_KEY)]) == "forged"


def test_a_forged_certificate_is_called_forged_whatever_its_dates() -> None:
    assert refusal([signed(NODE, b"B" * 32)], now_ms=END + 1) == "forged"


def test_a_name_with_a_slash_needs_its_issuers_certificate() -> None:
    assert refusal([signed(replace(NODE, name="desk/2"), AUTHORITY_KEY)]) == "forged"
    assert refusal([signed(replace(NODE, issuer="desk"), AUTHORITY_KEY)]) == "forged"


@pytest.mark.parametrize(
    "changes",
    [{"name": "desktop/2"}, {"name": "other/2"}, {"name": "desk"}, {"name": "desk-2"}, {"issuer": ""}, {"issuer": "x"}],
    ids=str,
)
def test_a_node_signs_only_for_names_under_its_own(changes: dict[str, str]) -> None:
    assert refusal(chain_of(replace(LEAF, **changes))) == "forged"  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    "changes",
    [
        {"not_before_ms": START - 1, "not_after_ms": START + DAY_MS},
        {"not_before_ms": END - DAY_MS, "not_after_ms": END + 1},
        {"not_after_ms": NOW + MAX_DELEGATED_LIFE_MS + 1},
    ],
    ids=["before its issuer", "beyond its issuer", "longer than 30 days"],
)
def test_a_delegated_period_lies_inside_the_issuers_and_is_short(changes: dict[str, int]) -> None:
    assert refusal(chain_of(replace(LEAF, **changes))) == "forged"  # type: ignore[arg-type]  # fields by name


def test_a_delegated_period_may_touch_both_ends_of_the_issuers() -> None:
    node = replace(NODE, not_after_ms=START + MAX_DELEGATED_LIFE_MS)
    leaf = replace(LEAF, not_before_ms=node.not_before_ms, not_after_ms=node.not_after_ms)
    assert verdict(chain_of(leaf, node)) == leaf


def test_a_node_cannot_give_a_role_that_it_does_not_have() -> None:
    assert refusal(chain_of(replace(LEAF, roles=("voter", "operator")))) == "forged"


def test_a_clock_may_lag_behind_a_certificate_by_36_hours() -> None:
    assert verdict(chain_of(None), START - CLOCK_GRACE_MS) == NODE
    assert refusal(chain_of(None), START - CLOCK_GRACE_MS - 1) == "not_yet_valid"


def test_a_certificate_expires_to_the_millisecond() -> None:
    assert verdict(chain_of(None), END) == NODE
    assert refusal(chain_of(None), END + 1) == "expired"


def test_the_period_of_a_delegate_counts() -> None:
    assert refusal(chain_of(LEAF), LEAF.not_after_ms + 1) == "expired"
    assert refusal(chain_of(LEAF), LEAF.not_before_ms - CLOCK_GRACE_MS - 1) == "not_yet_valid"


def test_a_clock_a_day_off_either_way_does_not_lock_a_fresh_delegate_out() -> None:
    assert verdict(chain_of(LEAF), NOW - DAY_MS) == LEAF
    assert verdict(chain_of(LEAF), NOW + DAY_MS) == LEAF


@pytest.mark.parametrize(
    ("now_ms", "sentence"),
    [
        (END + 3 * DAY_MS, "certificate of 'desk' expired 3 days ago"),
        (START - 3 * DAY_MS, "certificate of 'desk' becomes valid only in 3 days"),
        (0, "becomes valid only in 19675 days"),
    ],
)
def test_a_wrong_clock_gets_a_sentence_that_names_it(now_ms: int, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as caught:
        verdict(chain_of(None), now_ms)
    assert "clock" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_survives_pickling_with_its_reason() -> None:
    copy = pickle.loads(pickle.dumps(CertificateRefused(RefusalReason.EXPIRED, "too late")))  # noqa: S301  # made here
    assert (type(copy), copy.reason_code, str(copy)) == (CertificateRefused, RefusalReason.EXPIRED, "too late")


@pytest.mark.parametrize(
    ("span_ms", "text"),
    [
        (0, "0 seconds"),
        (119_999, "119 seconds"),
        (120_000, "2 minutes"),
        (7_200_000, "2 hours"),
        (2 * DAY_MS, "2 days"),
    ],
)
def test_a_span_is_shown_in_the_largest_unit_it_has_two_of(span_ms: int, text: str) -> None:
    assert rules.show_span(span_ms) == text


def test_names_are_the_same_here_and_in_the_configuration() -> None:
    assert NAME_PATTERN.pattern == CONFIG_NAME_PATTERN.pattern


# Each rule switched off lets through exactly what it is there to stop: the tests above exercise it and nothing else.
@pytest.mark.parametrize(
    ("rule", "links", "now_ms"),
    [
        ("_check_length", [signed(LEAF, LEAF_KEY), signed(LEAF, NODE_KEY), signed(NODE, AUTHORITY_KEY)], NOW),
        ("_check_mesh", [signed(replace(NODE, mesh_id="f" * 32), AUTHORITY_KEY)], NOW),
        ("_check_signatures", [signed(NODE, b"B" * 32)], NOW),
        ("_check_root", [signed(replace(NODE, name="laptop/2"), AUTHORITY_KEY)], NOW),
        ("_check_delegated_name", chain_of(replace(LEAF, name="laptop")), NOW),
        ("_check_delegated_period", chain_of(replace(LEAF, not_after_ms=END)), NOW),
        ("_check_delegated_roles", chain_of(replace(LEAF, roles=("operator",))), NOW),
        ("_check_started", chain_of(None), START - CLOCK_GRACE_MS - 1),
        ("_check_not_expired", chain_of(None), END + 1),
    ],
)
def test_without_its_rule_the_bad_chain_gets_through(
    monkeypatch: pytest.MonkeyPatch, rule: str, links: list[SignedCertificate], now_ms: int
) -> None:
    refusal(links, now_ms)
    monkeypatch.setattr(rules, rule, lambda *_: None)
    assert verdict(links, now_ms) == links[0].certificate
