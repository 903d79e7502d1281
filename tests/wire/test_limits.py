"""The limits of docs/spec/03-data-plane.md, section 10, and that what we send keeps them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zmesh.wire import limits
from zmesh.wire.data import Frame, Kind, Run, TopicFrame, TopicRun, encode

SPEC = (Path(__file__).parents[2] / "docs" / "spec" / "03-data-plane.md").read_text(encoding="utf-8")
CURVE_BYTES = 64  # more than the 33 that CURVE takes of ZMQ_MAXMSGSIZE
GREATEST = (1 << 63) - 1


def _in_table(name: str) -> int:
    found = re.search(rf"^\| {re.escape(name)} \| ([\d,]+) \|", SPEC, re.MULTILINE)
    assert found, f"no limit {name!r} on the page"
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frame begun", limits.FRAME_BYTES),
        ("payload inline", limits.INLINE_BYTES),
        ("chunk", limits.ATTACHMENT_BYTES),
        ("part", limits.MAX_PART_BYTES),
        ("credit at first", limits.INITIAL_CREDIT_BYTES),
        ("payload's estimated overhead", limits.RECORD_OVERHEAD_BYTES),
    ],
)
def test_the_page_says_what_the_code_does(name: str, value: int) -> None:
    assert _in_table(name) == value


def test_every_limit_has_its_reason_beside_it() -> None:
    source = Path(str(limits.__file__)).read_text(encoding="utf-8")
    assert set(limits.__all__) == set(re.findall(r"^([A-Z_]+): Final", source, re.MULTILINE)) - {"KIB", "MIB"}


def _encoded(payloads: list[bytes]) -> int:
    run = Run(Kind.REPLY, GREATEST, GREATEST, 5, 3, limits.MAX_TTL_MS, payloads, [GREATEST] * len(payloads))
    return len(encode(Frame(1, *[GREATEST] * 6, 7, [run])))


@pytest.mark.parametrize("size", [0, 1, 64, 1000, 30_000])
def test_a_frame_that_its_last_payload_overfills_is_a_part(size: int) -> None:
    """An outbox is flushed once its estimate passes a frame; one payload more may have come before."""
    count = limits.FRAME_BYTES // (size + limits.RECORD_OVERHEAD_BYTES)
    assert _encoded([bytes(size)] * count + [bytes(limits.INLINE_BYTES)]) + CURVE_BYTES < limits.MAX_PART_BYTES


@pytest.mark.parametrize("size", [0, 1, 64, 1000, 30_000])
def test_a_record_costs_at_most_its_estimate(size: int) -> None:
    ten, hundred = _encoded([bytes(size)] * 20), _encoded([bytes(size)] * 120)
    assert (hundred - ten) / 100 <= size + limits.RECORD_OVERHEAD_BYTES


def test_a_chunk_is_a_part() -> None:
    assert limits.ATTACHMENT_BYTES + CURVE_BYTES < limits.MAX_PART_BYTES


def test_a_published_frame_that_its_last_payload_overfills_is_a_part_and_so_is_its_repair() -> None:
    payloads = [bytes(100)] * (limits.FRAME_BYTES // (100 + limits.RECORD_OVERHEAD_BYTES))
    runs = [TopicRun(GREATEST, payloads), TopicRun(GREATEST, [bytes(limits.ATTACHMENT_BYTES)])]
    topic = b"g" + bytes(limits.GROUP_NAME_BYTES) + b"\0"
    assert len(topic) == limits.MAX_TOPIC_BYTES
    published = topic + encode(TopicFrame(1, GREATEST, GREATEST, GREATEST, runs))
    assert len(published) + CURVE_BYTES < limits.MAX_PART_BYTES
    repair = encode(Frame(1, *[GREATEST] * 2, 0, *[GREATEST] * 3, 0, [], None, [published]))
    assert len(repair) + CURVE_BYTES < limits.MAX_PART_BYTES


def test_sums_of_two_numbers_can_be_sent() -> None:
    assert encode(2 * limits.MAX_NUMBER)
