"""mDNS for real: multicast over veth links between network namespaces, one Python process in each."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.namespaces import Machine, MachineFactory

MESH = "5e" * 16
OTHER_MESH = "0f" * 16
PATIENCE_S = 20.0  # mDNS answers in 20-600 ms; a loaded machine may need more
ANNOUNCER = Path(__file__).with_name("announcer.py")
ROOT = Path(__file__).parents[2]
KEEP_PORT = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 5353))
print("bound", flush=True)
sys.stdin.read()
"""

Event = dict[str, Any]


class Announcer:
    """One running announcer: its events so far, and a wait for the next of a kind."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._events: queue.Queue[Event] = queue.Queue()
        self.seen: list[Event] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))

    def expect(self, event: str, **fields: object) -> Event:
        """The next event with these fields; earlier others are kept in ``seen``."""
        while True:
            try:
                got = self._events.get(timeout=PATIENCE_S)
            except queue.Empty:
                pytest.fail(f"waited {PATIENCE_S} s for {event} {fields}, saw {self.seen}")
            self.seen.append(got)
            if got["event"] == event and all(got.get(name) == value for name, value in fields.items()):
                return got

    def order(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def finish(self) -> int:
        """Close stdin, which lets the program say goodbye and end; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.close()
        return self._process.returncode

    def close(self) -> None:
        self._process.wait(timeout=PATIENCE_S)
        self._reader.join(timeout=PATIENCE_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@contextmanager
def announcing(
    machine: Machine,
    node_id: str,
    *,
    mesh: str = MESH,
    incarnation: int = 1,
    port: int = 7650,
    interval_s: float = 30.0,
) -> Iterator[Announcer]:
    process = machine.start(
        [sys.executable, str(ANNOUNCER), mesh, node_id, str(incarnation), str(port), str(interval_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    announcer = Announcer(process)
    try:
        yield announcer
    finally:
        announcer.kill()


def test_two_machines_find_each_other_on_both_address_families(namespaces: MachineFactory) -> None:
    left, right = namespaces(2)
    with announcing(left, "left", port=7650) as first, announcing(right, "right", port=7700) as second:
        ours = first.expect("found", source="mDNS: right")
        theirs = second.expect("found", source="mDNS: left")
        assert ours["hosts"] == [right.ipv4, right.ipv6]
        assert ours["port"] == 7700
        assert theirs["hosts"] == [left.ipv4, left.ipv6]
        assert theirs["port"] == 7650
        assert first.finish() == 0
        assert second.finish() == 0
        machines = {event["machine"] for event in first.seen + second.seen if event["event"] == "started"}
        assert len(machines) == 2, "two namespaces do not share a loopback interface"


def test_ipv6_alone_is_enough(namespaces: MachineFactory) -> None:
    left, right = namespaces(2, ipv4=False)
    with announcing(left, "left") as first, announcing(right, "right") as second:
        assert first.expect("found")["hosts"] == [right.ipv6]
        assert second.expect("found")["hosts"] == [left.ipv6]


def test_ipv4_alone_is_enough(namespaces: MachineFactory) -> None:
    left, right = namespaces(2, ipv6=False)
    with announcing(left, "left") as first, announcing(right, "right") as second:
        assert right.ipv4 in first.expect("found")["hosts"]
        assert left.ipv4 in second.expect("found")["hosts"]


def test_another_mesh_is_not_reported(namespaces: MachineFactory) -> None:
    left, right = namespaces(2)
    with ExitStack() as stack:
        first = stack.enter_context(announcing(left, "left"))
        stack.enter_context(announcing(right, "stranger", mesh=OTHER_MESH)).expect("started")
        stack.enter_context(announcing(right, "friend", port=7700))
        first.expect("found", source="mDNS: friend")
        # The stranger announced before the friend on the same link, so it would have been reported by now.
        assert [event["source"] for event in first.seen if event["event"] == "found"] == ["mDNS: friend"]


def test_a_killed_node_is_reported_again_when_it_restarts(namespaces: MachineFactory) -> None:
    left, right = namespaces(2)
    with announcing(left, "left") as first:
        with announcing(right, "right", incarnation=1) as second:
            first.expect("found", port=7650)
            second.kill()
        with announcing(right, "right", incarnation=2):
            first.expect("found", source="mDNS: right", port=7650)


def test_a_node_that_moves_is_reported_at_its_new_address(namespaces: MachineFactory) -> None:
    left, right = namespaces(2)
    with announcing(left, "left") as first, announcing(right, "right") as second:
        first.expect("found", source="mDNS: right")
        right.run_ip("addr", "del", f"{right.ipv4}/24", "dev", Machine.LINK)
        right.run_ip("addr", "add", "10.97.0.200/24", "dev", Machine.LINK)
        second.order("hosts")
        assert "10.97.0.200" in second.expect("updated")["hosts"]
        # The old address may be listed for its last second (RFC 6762, section 10.2), but after the new one.
        assert first.expect("found", source="mDNS: right")["hosts"][0] == "10.97.0.200"


def test_a_machine_plugged_in_later_is_found(namespaces: MachineFactory) -> None:
    left, right = namespaces(2)
    right.link_down()
    right.run_ip("addr", "flush", "dev", Machine.LINK)
    with announcing(left, "left") as first, announcing(right, "right") as second:
        second.expect("started")
        right.link_up()
        second.order("hosts")
        assert first.expect("found", source="mDNS: right")["hosts"] == [right.ipv4, right.ipv6]
        assert second.expect("found", source="mDNS: left")["hosts"] == [left.ipv4, left.ipv6]


def test_a_link_healed_beyond_their_sight_is_enough(namespaces: MachineFactory) -> None:
    left, right = namespaces(2)
    right.isolate()
    with announcing(left, "left", interval_s=0.5) as first, announcing(right, "right", interval_s=0.5) as second:
        first.expect("started")
        second.expect("started")
        right.reconnect()
        first.expect("found", source="mDNS: right")
        second.expect("found", source="mDNS: left")
        assert [event["event"] for event in first.seen + second.seen].count("found") == 2


def test_without_any_interface_it_says_so_and_recovers(namespaces: MachineFactory) -> None:
    left, right = namespaces(2)
    right.link_down()
    right.run_ip("addr", "flush", "dev", Machine.LINK)
    right.run_ip("link", "set", "lo", "down")
    right.run_ip("addr", "flush", "dev", "lo")
    with announcing(left, "left") as first, announcing(right, "right") as second:
        assert "no network interface" in second.expect("failed")["reason"]
        assert second.expect("started")["state"].startswith("failed: ")
        right.link_up()
        second.order("hosts")
        assert second.expect("updated")["state"].startswith("announcing on ")
        first.expect("found", source="mDNS: right")
        assert second.finish() == 0


def test_a_program_that_keeps_the_mdns_port_to_itself_is_reported(namespaces: MachineFactory) -> None:
    (machine,) = namespaces(1)
    keeper = machine.start([sys.executable, "-c", KEEP_PORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == "bound\n"
    with announcing(machine, "left") as node:
        assert "Address already in use" in node.expect("failed")["reason"]
        assert node.finish() == 0
    keeper.communicate()
