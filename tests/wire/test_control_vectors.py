"""The test vectors of docs/spec/02-control-plane.md, read by a plain MessagePack library and by the typed codec."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgpack
import pytest

from zmesh.core.introduction.messages import Enrol, Hello, Welcome
from zmesh.core.membership.member import Contact
from zmesh.wire.introduction import decode_introduction, encode_introduction
from zmesh.wire.record import decode_record, encode_record

SPEC = (Path(__file__).parents[2] / "docs" / "spec" / "02-control-plane.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```vector (\S+)\n((?:[0-9a-f]+\n)+)= (.+)\n```", SPEC)
FRAMES = {name: bytes.fromhex(text) for name, text, _ in BLOCKS}
RECORD = "record"  # the one that is no frame, and has no kind


def meaning(text: str) -> object:
    """The JSON of the page, with its byte strings."""
    marked = json.loads(re.sub(r"h'([0-9a-f]*)'", r'"bytes:\1"', text))

    def restore(value: object) -> object:
        if isinstance(value, str) and value.startswith("bytes:"):
            return bytes.fromhex(value.removeprefix("bytes:"))
        if isinstance(value, list):
            return [restore(item) for item in value]
        return value

    return restore(marked)


def test_every_kind_has_a_vector() -> None:
    kinds = {msgpack.unpackb(frame[1:])[0] for name, frame in FRAMES.items() if name != RECORD}
    assert kinds == {int(kind) for kind in re.findall(r"^\| (\d+) \| \w+ \|", SPEC, re.MULTILINE)}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, _, text in BLOCKS])
def test_a_plain_library_reads_and_makes_it(name: str, text: str) -> None:
    frame = FRAMES[name]
    assert frame[0] == 1
    assert msgpack.unpackb(frame[1:]) == meaning(text)
    assert b"\x01" + msgpack.packb(meaning(text)) == frame


@pytest.mark.parametrize("name", FRAMES)
def test_the_typed_codec_reads_and_makes_it(name: str) -> None:
    frame = FRAMES[name]
    if name == RECORD:
        assert encode_record(decode_record(frame)) == frame
    else:
        assert encode_introduction(decode_introduction(frame)) == frame


def test_what_the_codec_reads_is_what_the_page_means() -> None:
    desk = Contact("desk", 1_700_000_000_000, ("10.0.0.5", "fd00::2"), 7650, "m1")
    hello, welcome = decode_introduction(FRAMES["hello"]), decode_introduction(FRAMES["welcome"])
    assert isinstance(hello, Hello)
    assert isinstance(welcome, Welcome)
    assert hello.contact == welcome.contact == desk
    enrol = decode_introduction(FRAMES["enrol"])
    assert isinstance(enrol, Enrol)
    assert enrol.name == "laptop"
    record = decode_record(FRAMES[RECORD])
    assert [agent.agent_id for agent in record.agents] == [7, (1 << 64) - 1]
    assert record.agents[0].metadata == {"model": "x"}
    assert [agent.healthy for agent in record.agents] == [False, True]
    assert (record.maintenance, record.client, record.publishes) == (True, False, True)
