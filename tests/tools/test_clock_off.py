"""A machine whose clock is wrong: by a day it does no harm; by more, one sentence says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.tools.programs import Program, free_port, start_node

HOUR_S = 3600
# ``zmesh-node`` with all that it knows of the time of day moved; what runs out is measured by another clock.
MOVED = """
import sys, time
offset_ns, right = int(sys.argv.pop(1)) * 10**9, time.time_ns
time.time_ns = lambda: right() + offset_ns
from zmesh.tools.node import main
sys.exit(main())
"""


def start_moved(home: Path, offset_s: int, *arguments: str) -> Program:
    home.mkdir(exist_ok=True)
    listen = ("--listen", f"tcp://127.0.0.1:{free_port()}")
    return Program([sys.executable, "-c", MOVED, str(offset_s), "--json", *listen, *arguments], home=home)


@pytest.mark.parametrize("offset_s", [-24 * HOUR_S, 24 * HOUR_S], ids=["behind", "ahead"])
def test_a_clock_that_is_off_by_a_day_does_no_harm(tmp_path: Path, offset_s: int) -> None:
    home = tmp_path / "first"
    home.mkdir()
    with start_node(home, "--name", "first") as first:
        join = first.event("banner")["join"]
        with start_moved(tmp_path / "second", offset_s, "--name", "second", "--join", join) as second:
            for node, other in ((first, second), (second, first)):
                agent_id = other.event("banner")["agents"][0]["agent_id"]
                node.expect(lambda e, wanted=agent_id: e["event"] == "agent_added" and e["agent"]["agent_id"] == wanted)
                assert node.type(f"request {agent_id} hi")["payload"] == "hi"
            assert not [event for event in first.events + second.events if event["event"] == "incident"]


def test_a_clock_that_is_two_days_behind_is_named(tmp_path: Path) -> None:
    home = tmp_path / "first"
    home.mkdir()
    with start_node(home, "--name", "first") as first:
        join = first.event("banner")["join"]
        with start_moved(tmp_path / "second", -48 * HOUR_S, "--name", "second", "--join", join) as second:
            code, errors = second.wait()
    assert code == 3
    assert "clock" in errors
    assert errors.count("\n") == 1
