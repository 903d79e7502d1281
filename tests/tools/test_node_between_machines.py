"""Whole ``zmesh-node`` programs in network namespaces: two machines enrol, talk, and lose a link of two."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.namespaces import Machine, MachineFactory
from tests.tools.programs import PATIENCE_S, Program, command, environment

SECOND_LINK = "mesh1"
COUNT = 50


def start(machine: Machine, home: Path, *arguments: str, mdns: bool = False) -> Program:
    """A ``zmesh-node --json`` with its usual ports on all interfaces of a machine; it offers a pusher, too."""
    home.mkdir(exist_ok=True)
    inside = machine.inside(command("zmesh-node", "--json", "--agent", "tests.tools.pusher:Pusher", *arguments))
    return Program(inside, home=home, more={"ZMESH_MDNS": str(int(mdns))})


def invite(machine: Machine, home: Path) -> str:
    """What ``zmesh invite`` prints on the machine that founded the mesh."""
    done = subprocess.run(
        machine.inside(command("zmesh", "invite", "--json")),
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    return str(json.loads(done.stdout)["join"])


def echo_agent(node: Program) -> int:
    return int(node.event("banner")["agents"][0]["agent_id"])


def know_each_other(*nodes: Program) -> None:
    for node in nodes:
        for other in nodes:
            if other is not node:
                wanted = echo_agent(other)
                node.expect(lambda e, wanted=wanted: e["event"] == "agent_added" and e["agent"]["agent_id"] == wanted)


def push(node: Program, to: int, text: str) -> None:
    """Have the pusher on a node send ``COUNT`` messages."""
    pusher = next(each["agent_id"] for each in node.event("banner")["agents"] if each["capabilities"] == ["push"])
    assert node.type(f"send {pusher} {to} {COUNT} {text}")["event"] == "result"


def payloads(node: Program) -> list[str]:
    return [event["payload"] for event in node.events if event["event"] == "message"]


def addresses_in_use(first: Program, second: Program) -> list[str]:
    """Where each reaches the other."""
    members = (first.type("members")["nodes"], second.type("members")["nodes"])
    return [node["address"] for nodes in members for node in nodes if not node["is_self"]]


@pytest.fixture
def two_machines(namespaces: MachineFactory) -> tuple[Machine, Machine]:
    left, right = namespaces(2)
    return left, right


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_two_machines_enrol_and_talk(namespaces: MachineFactory, tmp_path: Path, family: str) -> None:
    """The two commands of the README, one on each machine, and no mDNS."""
    left, right = namespaces(2, ipv4=family == "ipv4", ipv6=family == "ipv6")
    with start(left, tmp_path / "left", "--name", "left") as first:
        first.event("banner")
        join = invite(left, tmp_path / "left")
        with start(right, tmp_path / "right", "--name", "right", "--join", join) as second:
            know_each_other(first, second)
            assert second.type("request echo hi")["from_node"] in ("left", "right")
            assert second.type(f"request {echo_agent(first)} hi")["payload"] == "hi"
            assert first.type(f"request {echo_agent(second)} ho")["payload"] == "ho"
            first.type("say hello")
            second.event("message", payload="hello")
        refused = start(right, tmp_path / "third", "--name", "third", "--join", join)
        with refused:
            code, errors = refused.wait()
            assert code == 3
            assert errors.count("\n") == 1, "one sentence says why the string is not good a second time"


def test_an_enrolled_machine_is_found_by_mdns_alone(two_machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    left, right = two_machines
    with start(left, tmp_path / "left", "--name", "left", mdns=True) as first:
        join = first.event("banner")["join"]
        with start(right, tmp_path / "right", "--name", "right", "--join", join, mdns=True) as second:
            know_each_other(first, second)
    with ExitStack() as stack:
        second = stack.enter_context(start(right, tmp_path / "right", "--name", "right", mdns=True))
        second.event("banner")
        first = stack.enter_context(start(left, tmp_path / "left", "--name", "left", mdns=True))
        know_each_other(first, second)
        assert second.type(f"request {echo_agent(first)} hi")["payload"] == "hi"


FAULTS: dict[str, Callable[[Machine], None]] = {"interface": Machine.link_down, "switch": Machine.isolate}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("case", ["ready", "repaired later", "repaired later, mdns"])
def test_one_link_of_two_goes_down(
    two_machines: tuple[Machine, Machine], tmp_path: Path, fault: str, case: str
) -> None:
    """The nodes find each other over the other link, and what is sent meanwhile arrives once, in order."""
    (left, right), mdns = two_machines, case.endswith("mdns")
    left.wire(right, SECOND_LINK, "10.98.0")
    left.run_ip("link", "set", SECOND_LINK, "down")  # so the first link is the one in use, though both are told of
    with start(left, tmp_path / "left", "--name", "left", mdns=mdns) as first:
        join = first.event("banner")["join"]
        with start(right, tmp_path / "right", "--name", "right", "--join", join, mdns=mdns) as second:
            know_each_other(first, second)
            to_first, to_second = echo_agent(first), echo_agent(second)
            first.type(f"send {to_second} before")
            second.event("message", payload="before")
            if case == "ready":
                left.run_ip("link", "set", SECOND_LINK, "up")
            in_use = addresses_in_use(first, second)
            assert not [address for address in in_use if address.startswith("10.98.")], "the fault would be none"
            FAULTS[fault](right)
            push(first, to_second, "forth")
            push(second, to_first, "back")
            if case != "ready":
                left.run_ip("link", "set", SECOND_LINK, "up")
            second.event("message", payload=f"forth {COUNT - 1}")
            first.event("message", payload=f"back {COUNT - 1}")
            assert payloads(second) == ["before", *(f"forth {number}" for number in range(COUNT))]
            assert payloads(first) == [f"back {number}" for number in range(COUNT)]
            assert first.type(f"request {to_second} hi")["payload"] == "hi"
            assert addresses_in_use(first, second) == ["10.98.0.2", "10.98.0.1"]
