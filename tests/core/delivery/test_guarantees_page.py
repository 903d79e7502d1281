"""docs/guarantees.md promises nothing that no test shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
PLACES = {
    "delivery": "tests/core/delivery",
    "broadcast": "tests/core/broadcast",
    "wire": "tests/wire",
    "runtime": "tests/runtime",
    "integration": "tests/integration",
    "tools": "tests/tools",
    "tests": "tests",
}
NAMED = sorted(set(re.findall(r"`(\w+)/(test_\w+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("place", "file", "test"), NAMED)
def test_every_test_it_names_is_there(place: str, file: str, test: str) -> None:
    source = (ROOT / PLACES[place] / file).read_text(encoding="utf-8")
    assert re.search(rf"^((async )?def {test}\(|{test} = )", source, re.MULTILINE), f"{file} has no {test}"


def test_every_promise_names_a_test() -> None:
    tables = [block for block in PAGE.split("\n\n") if block.startswith("| you may rely on")]
    rows = [row for table in tables for row in table.strip().splitlines()[2:]]
    assert len(rows) > 15
    assert [row for row in rows if "::" not in row] == []
