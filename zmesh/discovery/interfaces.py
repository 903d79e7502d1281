"""The addresses of this machine: which to tell others, and when they change.

Order matters because it is shown to people and tried first by peers: routable IPv4, routable IPv6 (global or unique
local), self-assigned IPv4, link-local IPv6 (only when there is nothing better: it needs a zone, which is the reader's
own and not ours to tell), loopback last.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path

import ifaddr

__all__ = [
    "advertised_hosts",
    "best_first",
    "is_loopback",
    "is_numeric",
    "machine_id",
    "reachable_hosts",
    "usable_addresses",
    "watch_addresses",
]

IPV4_WILDCARDS = frozenset({"0.0.0.0"})
WILDCARDS = IPV4_WILDCARDS | {"*", "::", ""}
ROUTABLE_IPV4, ROUTABLE_IPV6, SELF_ASSIGNED_IPV4, LINK_LOCAL_IPV6, LOOPBACK = range(5)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NETWORK_NAMESPACE = Path("/proc/self/ns/net")
_WATCH_INTERVAL_S = 2.0  # reading the interface list takes about 0.2 ms


def usable_addresses() -> list[str]:
    """Every address of this machine worth telling, best first; link-local IPv6 carries its zone (``fe80::1%eth0``)."""
    return best_first(_interface_addresses())


def advertised_hosts(listen_host: str, advertise: Sequence[str] = ()) -> tuple[str, ...]:
    """The hosts to tell others, best first.

    ``advertise`` wins where the user gave it; a listening address that is not a wildcard stands for itself; a wildcard
    stands for every usable address of its family.
    """
    if advertise:
        return tuple(dict.fromkeys(advertise))
    if listen_host not in WILDCARDS:
        return (listen_host,)
    usable = usable_addresses()
    if listen_host in IPV4_WILDCARDS:
        usable = [address for address in usable if ":" not in address]
    return tuple(usable)


def reachable_hosts(hosts: Iterable[str], machine: str) -> tuple[str, ...]:
    """``hosts`` of a peer without those that mean ourselves here: its loopback, unless it shares ours."""
    same_machine = machine == machine_id()
    return tuple(host for host in hosts if same_machine or not is_loopback(host))


def machine_id() -> str:
    """16 hex digits, equal for exactly the processes that share a loopback interface.

    Hashes the kernel's boot id with the network namespace, so it is stable between processes, differs between
    containers, changes at reboot and tells nothing about the machine. Where the system offers neither, it is random,
    which costs only the loopback short cut.
    """
    return _MACHINE_ID


async def watch_addresses(interval_s: float = _WATCH_INTERVAL_S) -> AsyncGenerator[tuple[str, ...], None]:
    """Yield the usable addresses each time they change; never at the start. Polls every ``interval_s`` seconds."""
    known = tuple(usable_addresses())
    while True:
        await asyncio.sleep(interval_s)
        current = tuple(usable_addresses())
        if current != known:
            known = current
            yield current


def is_numeric(host: str) -> bool:
    """Whether ``host`` is an IP address rather than a name that must be resolved."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address of the loopback interface, or its usual name."""
    return host == "localhost" or (is_numeric(host) and ipaddress.ip_address(host).is_loopback)


def best_first(addresses: Iterable[str]) -> list[str]:
    """IP addresses in the order of this module's head, each once; link-local IPv6 dropped where there is better."""
    ranked = sorted(dict.fromkeys(addresses), key=_rank)  # stable: within a rank, the order given
    better_than_link_local = any(_rank(address) < LINK_LOCAL_IPV6 for address in ranked)
    return [address for address in ranked if _rank(address) != LINK_LOCAL_IPV6 or not better_than_link_local]


def _interface_addresses() -> list[str]:
    addresses = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if isinstance(ip.ip, str):
                addresses.append(ip.ip)
            else:
                host = ip.ip[0]
                addresses.append(f"{host}%{adapter.name}" if ipaddress.ip_address(host).is_link_local else host)
    return addresses


def _rank(host: str) -> int:
    address = ipaddress.ip_address(host)
    if address.is_loopback:
        return LOOPBACK
    if address.version == 4:
        return SELF_ASSIGNED_IPV4 if address.is_link_local else ROUTABLE_IPV4
    return LINK_LOCAL_IPV6 if address.is_link_local else ROUTABLE_IPV6


def _read_machine_id() -> str:
    try:
        namespace = _NETWORK_NAMESPACE.stat()
        seed = f"{_BOOT_ID.read_text(encoding='ascii').strip()} {namespace.st_dev} {namespace.st_ino}".encode()
    except OSError:
        seed = os.urandom(16)
    return hashlib.blake2b(seed, digest_size=8, person=b"zmesh machine").hexdigest()


_MACHINE_ID = _read_machine_id()
