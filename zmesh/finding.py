"""Discovery, every way at once: what any of them finds is dialled, and one that fails stops none of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from zmesh.discovery.bootstrap import BootstrapDiscovery
from zmesh.discovery.found import Found
from zmesh.discovery.interfaces import advertised_hosts, watch_addresses
from zmesh.discovery.mdns import MdnsDiscovery

__all__ = ["Finding"]

Dial = Callable[[Sequence[tuple[str, int]], bool], None]


class Finding:
    """The ways of discovery of one node, and the watch over its own addresses."""

    def __init__(
        self,
        *,
        mesh_id: str,
        node_id: str,
        incarnation: int,
        port: int,
        listen_host: str,
        advertise: Sequence[str],
        addresses: Sequence[str],
        mdns: bool,
        dial: Dial,
        hosts_changed: Callable[[tuple[str, ...]], None],
        failed: Callable[[str, str], None],
    ) -> None:
        self._listen_host = listen_host
        self._advertise = tuple(advertise)
        self._hosts = advertised_hosts(listen_host, advertise)
        self._dial = dial
        self._hosts_changed = hosts_changed
        self._watching: asyncio.Task[None] | None = None
        self._bootstrap = BootstrapDiscovery(
            addresses, found=self._found_given, failed=lambda reason: failed("bootstrap", reason)
        )
        self._mdns = (
            MdnsDiscovery(
                mesh_id=mesh_id,
                node_id=node_id,
                incarnation=incarnation,
                port=port,
                hosts=self._hosts,
                found=self._found_announced,
                failed=lambda reason: failed("mdns", reason),
            )
            if mdns
            else None
        )

    async def start(self) -> None:
        """Start every way. None of them raises for what the machine or the network does."""
        await self._bootstrap.start()
        if self._mdns is not None:
            await self._mdns.start()
        self._watching = asyncio.create_task(self._watch_interfaces(), name="zmesh interfaces")

    async def stop(self) -> None:
        """Stop every way."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._bootstrap.stop()
        if self._mdns is not None:
            await self._mdns.stop()

    def states(self) -> dict[str, str]:
        """How each way fares, for people."""
        return {
            "mdns": self._mdns.state if self._mdns is not None else "switched off",
            "bootstrap": self._bootstrap.state,
        }

    def _found_given(self, found: Found) -> None:
        self._dial([(host, found.port) for host in found.hosts], True)

    def _found_announced(self, found: Found) -> None:
        self._dial([(host, found.port) for host in found.hosts], True)

    async def _watch_interfaces(self) -> None:
        """A laptop that changes networks tells the mesh, and announces itself there."""
        async for _ in watch_addresses():
            hosts = advertised_hosts(self._listen_host, self._advertise)
            if hosts == self._hosts:
                continue
            self._hosts = hosts
            self._hosts_changed(hosts)
            if self._mdns is not None:
                await self._mdns.update_hosts(hosts)
