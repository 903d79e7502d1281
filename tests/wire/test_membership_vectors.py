"""The test vectors of docs/spec/06-membership.md, read by a plain MessagePack library and by the typed codec."""

from __future__ import annotations

import re
from pathlib import Path

import msgpack
import pytest
from zmesh.core.membership.member import Contact

from tests.wire.test_control_vectors import meaning
from zmesh.core.membership.messages import Body, Heartbeat
from zmesh.core.membership.statements import Alive, Removal
from zmesh.core.membership.view import ViewStore
from zmesh.errors import ProtocolViolation
from zmesh.wire.membership import decode_membership, encode_membership

SPEC = (Path(__file__).parents[2] / "docs" / "spec" / "06-membership.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```vector (\S+)\n((?:[0-9a-f]+\n)+)= (.+)\n```", SPEC)
FRAMES = {name: bytes.fromhex(text) for name, text, _ in BLOCKS}


def test_every_kind_has_a_vector() -> None:
    kinds = {msgpack.unpackb(frame[1:])[0] for frame in FRAMES.values()}
    assert kinds == {int(kind) for kind in re.findall(r"^\| (\d+) \| \w+ \|", SPEC, re.MULTILINE)}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, _, text in BLOCKS])
def test_a_plain_library_reads_and_makes_it(name: str, text: str) -> None:
    frame = FRAMES[name]
    assert msgpack.unpackb(frame[1:]) == meaning(text)
    assert b"\x02" + msgpack.packb(meaning(text)) == frame


@pytest.mark.parametrize("name", FRAMES)
def test_the_typed_codec_reads_and_makes_it(name: str) -> None:
    assert encode_membership(decode_membership(FRAMES[name])) == FRAMES[name]


@pytest.mark.parametrize("name", FRAMES)
def test_what_is_cut_or_has_more_is_refused(name: str) -> None:
    frame = FRAMES[name]
    for end in range(len(frame)):
        with pytest.raises(ProtocolViolation):
            decode_membership(frame[:end])
    with pytest.raises(ProtocolViolation):
        decode_membership(frame + b"\x00")


def test_what_the_codec_reads_is_what_the_page_means() -> None:
    assert decode_membership(FRAMES["heartbeat"]) == Heartbeat(1700000000000, 77, 18446744073709551614)
    body = decode_membership(FRAMES["body"])
    assert isinstance(body, Body)
    assert isinstance(body.gone[0], Removal)
    assert body.gone[0].accusations[0].accuser == "lap/2"


def test_a_version_that_is_not_spoken_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="starts with"):
        decode_membership(b"\x01" + FRAMES["heartbeat"][1:])


def test_the_digests_are_those_of_the_page() -> None:
    desk = Alive(Contact("desk", 1700000000000, (), 7650, ""), 1, 3, b"", b"")
    lap = Alive(Contact("lap/2", 1700000000005, (), 7650, ""), 0, 1, b"", b"")
    store = ViewStore(near_size=32)
    alone, both = map(int, re.findall(r"\bis (\d{15,20})", SPEC))
    assert store.changed(None, [desk], []).digest == alone
    assert store.changed(None, [lap, desk], []).digest == both
