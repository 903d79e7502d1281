"""mDNS within one machine, on the loopback interface: what is reported, what is ignored, and that it closes cleanly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Self

import pytest
import uvloop
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from zmesh.discovery import mdns
from zmesh.discovery.found import Found
from zmesh.discovery.interfaces import machine_id
from zmesh.discovery.mdns import SERVICE_TYPE, MdnsDiscovery

MESH = "5e" * 16
PATIENCE_S = 20.0
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Node:
    """A ``MdnsDiscovery`` on loopback with what it reported."""

    def __init__(
        self, node_id: str, *, port: int = 7650, incarnation: int = 1, hosts: tuple[str, ...] = ("127.0.0.1",)
    ):
        self.found: asyncio.Queue[Found] = asyncio.Queue()
        self.failed: asyncio.Queue[str] = asyncio.Queue()
        self.discovery = MdnsDiscovery(
            mesh_id=MESH,
            node_id=node_id,
            incarnation=incarnation,
            port=port,
            hosts=hosts,
            found=self.found.put_nowait,
            failed=self.failed.put_nowait,
        )

    async def __aenter__(self) -> Self:
        await self.discovery.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.discovery.stop()

    async def next_found(self) -> Found:
        return await asyncio.wait_for(self.found.get(), PATIENCE_S)


def _run(main: Coroutine[Any, Any, None], loop_factory: LoopFactory | None = None) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_two_nodes_of_one_machine_find_each_other(loop_factory: LoopFactory) -> None:
    async def main() -> None:
        async with Node("first", port=7650) as first, Node("second", port=7654) as second:
            assert first.discovery.state == "announcing on 127.0.0.1"
            assert await first.next_found() == Found(("127.0.0.1",), 7654, "mDNS: second")
            assert await second.next_found() == Found(("127.0.0.1",), 7650, "mDNS: first")
            assert first.failed.empty()
        assert first.discovery.state == "stopped"

    _run(main(), loop_factory)


def test_a_node_does_not_report_itself_or_anybody_twice() -> None:
    async def main() -> None:
        async with Node("first") as first, Node("second") as second:
            await first.next_found()
            async with Node("third"):
                assert (await first.next_found()).source == "mDNS: third"
            await second.next_found()

    _run(main())


def test_a_restart_is_reported_even_at_the_same_address() -> None:
    async def main() -> None:
        async with Node("first") as first:
            async with Node("second", incarnation=1):
                before = await first.next_found()
            async with Node("second", incarnation=2):
                assert await first.next_found() == before

    _run(main())


def test_a_moved_port_is_reported() -> None:
    async def main() -> None:
        async with Node("first") as first:
            async with Node("second", port=7654):
                assert (await first.next_found()).port == 7654
            async with Node("second", port=7700):
                assert (await first.next_found()).port == 7700

    _run(main())


def _properties(**changes: bytes | None) -> dict[str | bytes, str | bytes | None]:
    given = {
        "mesh": MESH.encode(),
        "node": b"stranger",
        "incarnation": b"1",
        "machine": machine_id().encode(),
    } | changes
    return {name.encode(): value for name, value in given.items() if value is not None}


def _announcement(label: str, port: int, properties: dict[str | bytes, str | bytes | None]) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        SERVICE_TYPE,
        f"{label}.{SERVICE_TYPE}",
        port=port,
        parsed_addresses=["127.0.0.1"],
        properties=properties,
        server=f"{label}.local.",
    )


def _odd_announcements() -> list[AsyncServiceInfo]:
    return [
        _announcement("no-txt", 7650, {}),
        _announcement("no-mesh", 7650, _properties(mesh=None)),
        _announcement("other-mesh", 7650, _properties(mesh=b"0f" * 16)),
        _announcement("no-port", 0, _properties()),
        _announcement("loopback-of-another-machine", 7650, _properties(machine=b"elsewhere")),
        _announcement("binary-machine", 7650, _properties(machine=b"\xff\xfe")),
    ]


def test_announcements_that_cannot_be_used_are_ignored() -> None:
    async def main() -> None:
        stranger = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
        async with Node("first") as first:
            for info in _odd_announcements():
                await (await stranger.async_register_service(info, cooperating_responders=True))
            good = _announcement("good", 7700, _properties(node=b"\xff binary name", incarnation=None))
            await (await stranger.async_register_service(good, cooperating_responders=True))
            found = await first.next_found()
            assert (found.hosts, found.port) == (("127.0.0.1",), 7700)
            assert first.found.empty()
            assert first.failed.empty()
        await stranger.async_close()

    _run(main())


def test_garbage_on_the_multicast_group_disturbs_nobody() -> None:
    async def main() -> None:
        async with Node("first") as first:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
                noise.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
                for garbage in (b"", b"\x00", b"\xff" * 12, bytes(range(256)) * 5, b"\x00" * 11 + b"\xc0\x0c" * 40):
                    noise.sendto(garbage, ("224.0.0.251", 5353))
            async with Node("second"):
                assert (await first.next_found()).source == "mDNS: second"
            assert first.failed.empty()

    _run(main())


def test_invented_nodes_do_not_grow_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "MAX_KNOWN", 2)

    async def main() -> None:
        stranger = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
        async with Node("first") as first:
            for number in range(3):
                info = _announcement(f"invented-{number}", 7650, _properties(node=b"n%d" % number))
                await (await stranger.async_register_service(info, cooperating_responders=True))
            seen = {(await first.next_found()).source, (await first.next_found()).source}
            assert seen == {"mDNS: n0", "mDNS: n1"}
            assert first.found.empty()
        await stranger.async_close()

    _run(main())


def test_names_alone_cannot_be_announced_and_that_is_said() -> None:
    async def main() -> None:
        async with Node("first", hosts=("desk.example",)) as first:
            text = first.failed.get_nowait()
            assert "none of the hosts to announce is numeric: desk.example" in text
            assert "bootstrap address" in text
            assert first.discovery.state.startswith("failed: none of the hosts")

    _run(main())


def test_stopping_is_possible_at_any_time() -> None:
    async def main() -> None:
        never_started = Node("first")
        await never_started.discovery.stop()
        async with Node("second") as second:
            await second.discovery.stop()
            await second.discovery.stop()
            await second.discovery.update_hosts(("127.0.0.2",))
            assert second.discovery.state == "stopped"
        interrupted = Node("third")
        start = asyncio.create_task(interrupted.discovery.start())
        await asyncio.sleep(0)
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        await interrupted.discovery.stop()

    _run(main())


def test_long_and_odd_node_names_become_valid_and_distinct_labels() -> None:
    long = "n" * 63 + "/" + "x" * 31
    labels = [mdns._instance_label(MESH, name) for name in ("desk.lan", "desk-lan", "desk/2", long, long + "y")]
    assert len(set(labels)) == len(labels)
    assert all(len(label) <= 63 for label in labels)
    assert not [label for label in labels if set(label) & set("./_ ")]
