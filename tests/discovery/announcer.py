"""A node's mDNS half, run as a program inside a namespace: prints one JSON line per event until its stdin closes.

Arguments: mesh id, node id, incarnation, port, seconds between announcements. A line read from stdin is an order:
``hosts`` announces the addresses the machine has now.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from zmesh.discovery import mdns
from zmesh.discovery.found import Found
from zmesh.discovery.interfaces import advertised_hosts, machine_id


def _print(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def _orders() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            yield line.decode().strip()
    finally:
        transport.close()


async def _main(mesh_id: str, node_id: str, incarnation: str, port: str, interval_s: str) -> None:
    mdns.ANNOUNCE_INTERVAL_S = float(interval_s)

    def found(place: Found) -> None:
        _print("found", hosts=place.hosts, port=place.port, source=place.source)

    discovery = mdns.MdnsDiscovery(
        mesh_id=mesh_id,
        node_id=node_id,
        incarnation=int(incarnation),
        port=int(port),
        hosts=advertised_hosts("*"),
        found=found,
        failed=lambda reason: _print("failed", reason=reason),
    )
    await discovery.start()
    _print("started", state=discovery.state, machine=machine_id())
    async for order in _orders():
        if order == "hosts":
            await discovery.update_hosts(advertised_hosts("*"))
            _print("updated", state=discovery.state, hosts=advertised_hosts("*"))
    await discovery.stop()
    _print("stopped", state=discovery.state)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
