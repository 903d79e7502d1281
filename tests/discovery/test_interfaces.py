"""Which addresses are told to others, in what order, and when they are said to have changed."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.namespaces import Machine, MachineFactory
from zmesh.discovery import interfaces
from zmesh.discovery.interfaces import (
    advertised_hosts,
    best_first,
    is_loopback,
    is_numeric,
    machine_id,
    reachable_hosts,
    usable_addresses,
    watch_addresses,
)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0


def test_routable_ipv4_comes_first_and_loopback_last() -> None:
    given = ["::1", "127.0.0.1", "169.254.3.4", "fd00::2", "2001:db8::5", "10.0.0.5", "203.0.113.9"]
    assert best_first(given) == [
        *("10.0.0.5", "203.0.113.9"),
        *("fd00::2", "2001:db8::5"),
        "169.254.3.4",
        *("::1", "127.0.0.1"),
    ]


def test_link_local_ipv6_counts_only_when_there_is_nothing_better() -> None:
    assert best_first(["fe80::1%eth0", "10.0.0.5", "127.0.0.1"]) == ["10.0.0.5", "127.0.0.1"]
    assert best_first(["127.0.0.1", "fe80::1%eth0"]) == ["fe80::1%eth0", "127.0.0.1"]


def test_an_address_on_two_interfaces_is_listed_once() -> None:
    assert best_first(["10.0.0.5", "fd00::2", "10.0.0.5"]) == ["10.0.0.5", "fd00::2"]


def test_this_machine_has_a_loopback_address() -> None:
    assert "127.0.0.1" in usable_addresses()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.5", False),
        ("desk", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("10.0.0.5", True), ("fe80::1%eth0", True), ("fd00::2", True), ("desk", False), ("10.0.0", False), ("", False)],
)
def test_numbers_are_told_from_names(host: str, expected: bool) -> None:
    assert is_numeric(host) is expected


def test_what_the_user_advertises_wins_over_everything() -> None:
    assert advertised_hosts("*", ["mesh.example", "10.0.0.5", "mesh.example"]) == ("mesh.example", "10.0.0.5")
    assert advertised_hosts("127.0.0.1", ["10.0.0.5"]) == ("10.0.0.5",)


def test_a_listening_address_stands_for_itself() -> None:
    assert advertised_hosts("127.0.0.1") == ("127.0.0.1",)
    assert advertised_hosts("desk.lan") == ("desk.lan",)


@pytest.mark.parametrize("wildcard", ["*", "::", ""])
def test_a_wildcard_stands_for_every_usable_address(wildcard: str) -> None:
    assert advertised_hosts(wildcard) == tuple(usable_addresses())


def test_the_ipv4_wildcard_stands_for_ipv4_alone() -> None:
    hosts = advertised_hosts("0.0.0.0")
    assert "127.0.0.1" in hosts
    assert not [host for host in hosts if ":" in host]


def test_a_peers_loopback_is_dialled_only_on_the_same_machine() -> None:
    hosts = ["10.0.0.5", "127.0.0.1", "::1", "localhost"]
    assert reachable_hosts(hosts, machine_id()) == tuple(hosts)
    assert reachable_hosts(hosts, "another") == ("10.0.0.5",)


def _machine_id_in(*command: str) -> str:
    program = "from zmesh.discovery.interfaces import machine_id; print(machine_id())"
    done = subprocess.run(
        [*command, sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


def test_processes_of_one_machine_share_its_id() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", machine_id())
    assert _machine_id_in() == machine_id()


def test_a_namespace_is_another_machine(namespaces: MachineFactory) -> None:
    (machine,) = namespaces(1)
    assert _machine_id_in("ip", "netns", "exec", machine.name) != machine_id()


def test_without_proc_the_id_is_random_rather_than_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(interfaces, "_BOOT_ID", tmp_path / "missing")
    assert interfaces._read_machine_id() != interfaces._read_machine_id()


def test_a_change_of_address_is_seen(namespaces: MachineFactory) -> None:
    (machine,) = namespaces(1)
    program = (
        "import asyncio\n"
        "from zmesh.discovery.interfaces import usable_addresses, watch_addresses\n"
        "async def main():\n"
        "    changes = watch_addresses(0.05)\n"
        "    change = asyncio.ensure_future(anext(changes))\n"
        "    await asyncio.sleep(0)\n"  # the watcher has read what there is
        "    print(*usable_addresses(), flush=True)\n"
        "    print(*await change, flush=True)\n"
        "    await changes.aclose()\n"
        "asyncio.run(main())\n"
    )
    process = machine.start([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    with process.stdout as output:
        before = output.readline().split()
        machine.run_ip("addr", "del", f"{machine.ipv4}/24", "dev", Machine.LINK)
        after = output.readline().split()
    assert process.wait(timeout=PATIENCE_S) == 0
    assert before[0] == machine.ipv4
    assert after == before[1:]


def test_nothing_is_yielded_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([["10.0.0.1"], ["10.0.0.1"], ["10.0.0.1"], ["10.0.0.2"], ["10.0.0.2"], ["10.0.0.1"]])
    monkeypatch.setattr(interfaces, "usable_addresses", lambda: next(readings))

    async def two_changes() -> list[tuple[str, ...]]:
        changes = watch_addresses(0.0)
        seen = [await anext(changes), await anext(changes)]
        await changes.aclose()
        return seen

    assert asyncio.run(two_changes()) == [("10.0.0.2",), ("10.0.0.1",)]
