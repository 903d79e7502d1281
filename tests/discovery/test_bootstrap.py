"""Addresses the user gave: numbers at once, names when they resolve, and a clear sentence when they do not.

The names are looked up by the system's resolver; its answers are replaced only where a test needs it to change its
mind or to hang, which no real resolver does on command.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from zmesh.discovery import bootstrap
from zmesh.discovery.bootstrap import BootstrapDiscovery
from zmesh.discovery.found import Found
from zmesh.errors import ConfigurationError

PATIENCE_S = 20.0
Answer = list[tuple[Any, ...]] | Exception


class Reports:
    """What the callbacks were told, and a wait for the next."""

    def __init__(self) -> None:
        self.found: asyncio.Queue[Found] = asyncio.Queue()
        self.failed: asyncio.Queue[str] = asyncio.Queue()

    async def next_found(self) -> Found:
        return await asyncio.wait_for(self.found.get(), PATIENCE_S)

    async def next_failed(self) -> str:
        return await asyncio.wait_for(self.failed.get(), PATIENCE_S)


def _run(addresses: list[str], scenario: Callable[[BootstrapDiscovery, Reports], Awaitable[None]]) -> None:
    async def main() -> None:
        reports = Reports()
        discovery = BootstrapDiscovery(addresses, found=reports.found.put_nowait, failed=reports.failed.put_nowait)
        await discovery.start()
        try:
            await scenario(discovery, reports)
        finally:
            await discovery.stop()
        assert discovery.state == "stopped"

    asyncio.run(main())


def _answer(*hosts: str) -> Answer:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in hosts]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """The resolver's next answers; the last one stays."""
    answers: list[Answer] = []

    def getaddrinfo(*_: object, **__: object) -> list[tuple[Any, ...]]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(bootstrap, "RETRY_S", 0.01)
    monkeypatch.setattr(bootstrap, "REFRESH_S", 0.01)
    return answers


def test_numeric_addresses_are_found_before_start_returns() -> None:
    async def scenario(discovery: BootstrapDiscovery, reports: Reports) -> None:
        assert [reports.found.get_nowait() for _ in range(2)] == [
            Found(("10.0.0.5",), 7650, "bootstrap: tcp://10.0.0.5"),
            Found(("fd00::2",), 7700, "bootstrap: tcp://[fd00::2]:7700"),
        ]
        assert discovery.state == "dialling tcp://10.0.0.5, tcp://[fd00::2]:7700"

    _run(["tcp://10.0.0.5", "tcp://[fd00::2]:7700"], scenario)


def test_a_name_is_resolved_by_the_system() -> None:
    async def scenario(discovery: BootstrapDiscovery, reports: Reports) -> None:
        found = await reports.next_found()
        assert set(found.hosts) <= {"127.0.0.1", "::1"}
        assert found.hosts
        assert found.port == 7700

    _run(["tcp://localhost:7700"], scenario)


def test_all_addresses_of_a_name_travel_together(resolver: list[Answer]) -> None:
    resolver.append(_answer("10.0.0.5", "fd00::2", "10.0.0.5"))

    async def scenario(discovery: BootstrapDiscovery, reports: Reports) -> None:
        assert (await reports.next_found()).hosts == ("10.0.0.5", "fd00::2")

    _run(["tcp://desk.example"], scenario)


def test_an_unresolvable_name_is_reported_once_and_tried_again(resolver: list[Answer]) -> None:
    failure = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    resolver.extend([failure, failure, failure, _answer("10.0.0.5")])

    async def scenario(discovery: BootstrapDiscovery, reports: Reports) -> None:
        text = await reports.next_failed()
        assert text.startswith("bootstrap address tcp://desk.example: cannot resolve 'desk.example': Name or service")
        assert "cannot resolve tcp://desk.example" in discovery.state
        assert (await reports.next_found()).hosts == ("10.0.0.5",)
        assert "cannot resolve" not in discovery.state
        assert reports.failed.empty()

    _run(["tcp://desk.example"], scenario)


def test_one_unresolvable_name_costs_the_others_nothing(resolver: list[Answer]) -> None:
    resolver.append(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))

    async def scenario(discovery: BootstrapDiscovery, reports: Reports) -> None:
        assert (await reports.next_found()).hosts == ("10.0.0.5",)
        await reports.next_failed()

    _run(["tcp://nowhere.example", "tcp://10.0.0.5"], scenario)


def test_a_name_that_moves_is_reported_again_and_an_unchanged_one_is_not(resolver: list[Answer]) -> None:
    resolver.extend([_answer("10.0.0.5"), _answer("10.0.0.5"), _answer("10.0.0.6")])

    async def scenario(discovery: BootstrapDiscovery, reports: Reports) -> None:
        assert (await reports.next_found()).hosts == ("10.0.0.5",)
        assert (await reports.next_found()).hosts == ("10.0.0.6",)

    _run(["tcp://desk.example"], scenario)


def test_a_resolver_that_hangs_is_reported(resolver: list[Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESOLVE_TIMEOUT_S", 0.05)

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async def scenario(discovery: BootstrapDiscovery, reports: Reports) -> None:
        assert "no answer within" in await reports.next_failed()

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", hang)
    _run(["tcp://desk.example"], scenario)


def test_a_name_no_resolver_would_take_is_reported() -> None:
    name = "x" * 64  # a label of a name has at most 63 bytes

    async def scenario(discovery: BootstrapDiscovery, reports: Reports) -> None:
        assert "not a host name" in await reports.next_failed()

    _run([f"tcp://{name}.example"], scenario)


def test_no_address_is_a_state_of_its_own() -> None:
    async def scenario(discovery: BootstrapDiscovery, reports: Reports) -> None:
        assert discovery.state == "no addresses given"

    _run([], scenario)


def test_text_that_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="udp://"):
        BootstrapDiscovery(["udp://10.0.0.5"], found=print, failed=print)
