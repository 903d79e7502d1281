"""mDNS / DNS-SD: nodes on one link find each other with nothing configured (RFC 6762, RFC 6763).

A node announces ``_zmesh._tcp.local.`` with its introduction port, its addresses and, in TXT, the public names below;
it browses the same type and yields what others of its mesh announce. Nothing here is secret and nothing is proof:
whoever answers at a found address still has to show a certificate.

TXT keys: ``txtvers`` (1), ``mesh`` (the mesh id), ``node`` (the node id), ``incarnation``, ``machine`` (so that a
loopback address is only dialled where it means the announcer).

RFC 6762 lets announcements stop once made, which misses whoever was unplugged at that time. A node therefore repeats
its own every ``ANNOUNCE_INTERVAL_S``, in one packet.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from zmesh.discovery.found import Found
from zmesh.discovery.interfaces import best_first, is_numeric, machine_id, reachable_hosts, usable_addresses

__all__ = ["SERVICE_TYPE", "MdnsDiscovery"]

SERVICE_TYPE = "_zmesh._tcp.local."
TXT_VERSION = b"1"
ANNOUNCE_INTERVAL_S = 30.0  # one packet of about 300 bytes: 100 nodes make 3 packets a second
RESOLVE_TIMEOUT_MS = 3000.0  # for the rest of an announcement that came in pieces
MAX_KNOWN = 1024  # announcements are unauthenticated: a flood of invented nodes must not grow our memory
MAX_HOSTS = 16  # per announcement

_LABEL_BYTES = 63  # of a DNS name's part
_NOT_IN_LABEL = re.compile(r"[^A-Za-z0-9-]")
_FAILURES = (OSError, RuntimeError, TimeoutError, zeroconf.Error)  # RuntimeError: zeroconf's word for "no interface"


class MdnsDiscovery:
    """Announces this node and reports others of its mesh.

    ``port`` is the introduction port and ``hosts`` the addresses to announce; only those that are numeric can be.
    ``found`` is called on the event loop for each node, and again when its addresses, port or incarnation change;
    ``failed`` with a sentence for the user when mDNS cannot work here. Neither ``start`` nor ``update_hosts`` raises
    for what the machine or the network does.
    """

    def __init__(
        self,
        *,
        mesh_id: str,
        node_id: str,
        incarnation: int,
        port: int,
        hosts: Sequence[str],
        found: Callable[[Found], None],
        failed: Callable[[str], None],
    ) -> None:
        self._mesh_id = mesh_id
        self._node_id = node_id
        self._incarnation = incarnation
        self._port = port
        self._hosts = tuple(hosts)
        self._found = found
        self._failed = failed
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: AsyncServiceInfo | None = None
        self._known: dict[str, tuple[Found, bytes]] = {}  # by service name: what was reported, of which incarnation
        self._resolving: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changing = asyncio.Lock()  # start, update_hosts and stop exclude one another
        self._state = "not started"

    @property
    def state(self) -> str:
        """One line for people: ``announcing on 10.0.0.5, fd00::2``, ``failed: ...``, ``stopped``."""
        return self._state

    async def start(self) -> None:
        """Open the sockets, announce and browse; on failure report it and stay off until ``update_hosts``."""
        async with self._changing:
            await self._attempt(self._open)

    async def update_hosts(self, hosts: Sequence[str]) -> None:
        """The machine's addresses changed: announce these on the interfaces there are now."""
        async with self._changing:
            if self._state == "stopped" or tuple(hosts) == self._hosts:
                return
            self._hosts = tuple(hosts)
            await self._attempt(self._open if self._zeroconf is None else self._move)

    async def stop(self) -> None:
        """Take the announcement back and close every socket. Idempotent; takes about a quarter of a second."""
        async with self._changing:
            await self._close()
            self._state = "stopped"

    async def _attempt(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await action()
        except _FAILURES as error:
            await self._close()
            reason = str(error) or type(error).__name__
            self._state = f"failed: {reason}"
            self._failed(
                f"mDNS discovery is off ({reason}): nodes on this network are not found by themselves, "
                "name one of them with a bootstrap address"
            )

    async def _open(self) -> None:
        interfaces = self._interfaces()
        self._info = self._describe()
        self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=_ip_version(interfaces))
        await self._zeroconf.zeroconf.async_wait_for_start()
        self._check_senders()
        # The name holds a hash of mesh and node: asking first whether it is taken would only cost 0.7 s.
        self._spawn(await self._zeroconf.async_register_service(self._info, cooperating_responders=True))
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE_TYPE, handlers=[self._on_change])
        self._spawn(self._keep_announcing())
        self._state = f"announcing on {', '.join(interfaces)}"

    async def _move(self) -> None:
        if self._zeroconf is None:
            return
        interfaces = self._interfaces()
        self._info = self._describe()
        # The announcement first: opening sockets for new interfaces repeats on all what is registered by then.
        self._spawn(await self._zeroconf.async_update_service(self._info))
        await self._zeroconf.async_update_interfaces(interfaces, _ip_version(interfaces))
        self._check_senders()
        self._state = f"announcing on {', '.join(interfaces)}"

    async def _close(self) -> None:
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        browser, self._browser = self._browser, None
        if browser is not None:
            await browser.async_cancel()
        opened, self._zeroconf = self._zeroconf, None
        if opened is not None:
            await opened.async_close()
        self._known.clear()
        self._resolving.clear()

    def _interfaces(self) -> list[str]:
        """Where to speak: on the links our announced addresses belong to, else (behind NAT, say) on all."""
        local = usable_addresses()
        chosen = [host for host in self._hosts if host in local] or local
        if not chosen:
            raise RuntimeError("this machine has no network interface with an address")
        return chosen

    def _check_senders(self) -> None:
        if self._zeroconf is not None and not self._zeroconf.zeroconf.engine.senders:
            raise RuntimeError("no network interface takes multicast")

    def _describe(self) -> AsyncServiceInfo:
        addresses = [host.partition("%")[0] for host in self._hosts if is_numeric(host)]
        if not addresses:
            raise RuntimeError(
                f"none of the hosts to announce is numeric: {', '.join(self._hosts) or 'there are none'}"
            )
        label = _instance_label(self._mesh_id, self._node_id)
        return AsyncServiceInfo(
            SERVICE_TYPE,
            f"{label}.{SERVICE_TYPE}",
            server=f"{label}.local.",  # a host name of our own: the machine's may be announced by another program
            port=self._port,
            parsed_addresses=addresses,
            properties={
                b"txtvers": TXT_VERSION,
                b"mesh": self._mesh_id.encode(),
                b"node": self._node_id.encode(),
                b"incarnation": str(self._incarnation).encode(),
                b"machine": machine_id().encode(),
            },
        )

    async def _keep_announcing(self) -> None:
        while True:
            await asyncio.sleep(ANNOUNCE_INTERVAL_S)
            if self._zeroconf is not None and self._info is not None:
                core = self._zeroconf.zeroconf
                core.async_send(core.generate_service_broadcast(self._info, None))

    def _on_change(
        self, zeroconf: zeroconf.Zeroconf, service_type: str, name: str, state_change: zeroconf.ServiceStateChange
    ) -> None:
        """Zeroconf's callback, on the loop; it passes these by keyword."""
        if state_change.name == "Removed":
            self._known.pop(name, None)
        elif name not in self._resolving:  # else the look-up under way sees this change itself
            self._resolving.add(name)
            self._spawn(self._resolve(zeroconf, name))

    async def _resolve(self, core: zeroconf.Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        try:
            complete = await info.async_request(core, RESOLVE_TIMEOUT_MS)
        finally:
            self._resolving.discard(name)
        if complete:
            self._consider(info)

    def _consider(self, info: AsyncServiceInfo) -> None:
        properties = info.properties
        node = (properties.get(b"node") or b"").decode(errors="replace")
        if properties.get(b"mesh") != self._mesh_id.encode() or node == self._node_id:
            return
        hosts = _dialable_hosts(info)
        if not hosts or not info.port:
            return
        report = (Found(hosts, info.port, f"mDNS: {node}"), properties.get(b"incarnation") or b"")
        if self._known.get(info.name) == report or (info.name not in self._known and len(self._known) >= MAX_KNOWN):
            return
        self._known[info.name] = report
        self._found(report[0])

    def _spawn(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(f"mDNS discovery: {type(error).__name__}: {error}")


def _instance_label(mesh_id: str, node_id: str) -> str:
    """A DNS label that people recognise and that no other node has."""
    unique = hashlib.blake2b(f"{mesh_id}/{node_id}".encode(), digest_size=6).hexdigest()
    return f"{_NOT_IN_LABEL.sub('-', node_id)[: _LABEL_BYTES - len(unique) - 1]}-{unique}"


def _ip_version(interfaces: Sequence[str]) -> zeroconf.IPVersion:
    """IPv6 sockets only where there is IPv6: elsewhere the kernel may not have the family at all."""
    return zeroconf.IPVersion.All if any(":" in address for address in interfaces) else zeroconf.IPVersion.V4Only


def _dialable_hosts(info: AsyncServiceInfo) -> tuple[str, ...]:
    machine = (info.properties.get(b"machine") or b"").decode(errors="replace")
    announced = [host for host in info.parsed_scoped_addresses()[:MAX_HOSTS] if not _lacks_zone(host)]
    return reachable_hosts(best_first(announced), machine)


def _lacks_zone(host: str) -> bool:
    """A link-local address heard over IPv4 comes without the interface it is on, so it cannot be dialled."""
    address = ipaddress.ip_address(host)
    return isinstance(address, ipaddress.IPv6Address) and address.is_link_local and not address.scope_id
