"""The vectors of docs/spec/03-data-plane.md and 05-broadcast.md, read from the pages with two MessagePack libraries.

What a vector means is written under it in JSON, with ``h'..'`` for byte strings. Plain ``msgpack`` must read and make
exactly that; the typed codec must read it into the fields of the same names and, unless the vector is of the kind that
only others send, make the same bytes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from zmesh.errors import ProtocolViolation
from zmesh.wire.data import (
    Frame,
    decode_failure,
    decode_frame,
    decode_topic_frame,
    encode,
    encode_failure,
)

SPEC = Path(__file__).parents[2] / "docs" / "spec"
PAGES = {name: (SPEC / name).read_text(encoding="utf-8") for name in ("03-data-plane.md", "05-broadcast.md")}
VECTOR = re.compile(r"^```vector (?P<name>\S+)\n(?P<hex>[0-9a-f\n]+)\n= (?P<meaning>.*)\n```$", re.MULTILINE)
REFUSED = re.compile(r"^(?P<reason>\w+) (?P<what>.+)\n(?P<hex>(?:  (?:[0-9a-f]+|-)\n)+)", re.MULTILINE)
ONLY_OTHERS_SEND = {"short", "longer"}


def _meaning(text: str) -> Any:
    quoted = re.sub(r"h'([0-9a-f]*)'", r'{"h": "\1"}', text)
    return json.loads(quoted, object_hook=lambda found: bytes.fromhex(found["h"]))


def _vectors(page: str) -> dict[str, tuple[bytes, Any]]:
    return {
        found["name"]: (bytes.fromhex("".join(found["hex"].split())), _meaning(found["meaning"]))
        for found in VECTOR.finditer(PAGES[page])
    }


def _refused(page: str) -> list[tuple[str, str, bytes]]:
    block = PAGES[page].split("```refused\n")[1].split("```")[0]
    return [
        (found["reason"], found["what"], bytes.fromhex(found["hex"].replace("-", "")))
        for found in REFUSED.finditer(block)
    ]


FRAMES = {name: vector for name, vector in _vectors("03-data-plane.md").items() if name != "failure-payload"}
FAILURE = _vectors("03-data-plane.md")["failure-payload"]
TOPICS = _vectors("05-broadcast.md")


def test_the_pages_have_every_vector() -> None:
    assert (len(FRAMES), len(TOPICS)) == (14, 2)
    assert (len(_refused("03-data-plane.md")), len(_refused("05-broadcast.md"))) == (27, 11)
    for page, text in PAGES.items():
        assert text.count("```vector") == len(_vectors(page))


@pytest.mark.parametrize("name", FRAMES)
def test_another_library_reads_and_makes_the_same(name: str) -> None:
    data, meaning = FRAMES[name]
    assert msgpack.unpackb(data) == meaning
    assert msgpack.packb(meaning) == data


@pytest.mark.parametrize("name", FRAMES)
def test_the_typed_codec_reads_what_the_page_says(name: str) -> None:
    data, meaning = FRAMES[name]
    frame = decode_frame(data)
    length = len(Frame.__struct_fields__)
    assert _lists(msgspec.to_builtins(frame, builtin_types=[bytes]))[: len(meaning)] == _padded(meaning)[:length]


def _lists(value: Any) -> Any:
    return [_lists(element) for element in value] if isinstance(value, list | tuple) else value


def _padded(frame: list[Any]) -> list[Any]:
    """A run's columns may be left out from the end; the typed codec shows them as None."""
    return [*frame[:8], [run + [None] * (11 - len(run)) for run in frame[8]], *frame[9:]]


@pytest.mark.parametrize("name", sorted(FRAMES.keys() - ONLY_OTHERS_SEND))
def test_the_typed_codec_makes_the_same_bytes(name: str) -> None:
    data, meaning = FRAMES[name]
    assert encode(decode_frame(data)) == data
    assert encode(msgspec.convert(meaning, Frame)) == data


@pytest.mark.parametrize("name", sorted(ONLY_OTHERS_SEND))
def test_what_others_may_send_means_the_same_as_what_we_would(name: str) -> None:
    ours, theirs = decode_frame(FRAMES["two-runs"][0]), decode_frame(FRAMES[name][0])
    assert (theirs.first, theirs.ack, theirs.notes, theirs.repairs) == (ours.first, ours.ack, None, None)
    assert theirs.runs[0].payloads == [b"a", b"b"]
    assert theirs.runs[0].part is None


def test_a_chunk_is_what_the_page_says() -> None:
    (run,) = decode_frame(FRAMES["chunk"][0]).runs
    assert run.part == (1_572_864, 1_048_576)


def test_the_failure_payload_is_made_again() -> None:
    data, meaning = FAILURE
    assert msgpack.unpackb(data) == meaning
    assert encode_failure("ValueError", "no") == data
    assert decode_failure(data) == tuple(meaning)
    (run,) = decode_frame(FRAMES["failure"][0]).runs
    assert run.payloads == [data]


@pytest.mark.parametrize("name", TOPICS)
def test_a_published_part_is_its_topic_and_a_topic_frame(name: str) -> None:
    data, (topic, meaning) = TOPICS[name]
    body = data.removeprefix(topic)
    assert (topic[-1:], topic.count(b"\0")) == (b"\0", 1)
    assert data == topic + body
    assert msgpack.unpackb(body) == meaning
    assert msgpack.packb(meaning) == body
    frame = decode_topic_frame(body)
    assert msgspec.to_builtins(frame, builtin_types=[bytes]) == meaning
    assert encode(frame) == body


def test_a_repair_brings_a_published_part() -> None:
    (repair,) = decode_frame(FRAMES["repair"][0]).repairs or ()
    topic, _, body = repair.partition(b"\0")
    assert topic == b"glab"
    assert decode_topic_frame(body).first == 3


@pytest.mark.parametrize(("reason", "what", "data"), _refused("03-data-plane.md"), ids=lambda value: str(value)[:40])
def test_a_frame_that_breaks_a_rule_is_refused(reason: str, what: str, data: bytes) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        decode_frame(data)
    assert refused.value.reason == reason, what


@pytest.mark.parametrize(("reason", "what", "data"), _refused("05-broadcast.md"), ids=lambda value: str(value)[:40])
def test_a_topic_frame_that_breaks_a_rule_is_refused(reason: str, what: str, data: bytes) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        decode_topic_frame(data)
    assert refused.value.reason == reason, what
