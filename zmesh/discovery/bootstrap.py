"""Addresses the user gave: numeric ones as they are, names resolved, tried again while they do not resolve.

A name is looked up again for as long as discovery runs, so that a laptop started without a network finds its mesh
later, and a name that moves is followed. Each address is on its own: a slow resolver delays nobody else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from zmesh.address import parse_peer_address
from zmesh.discovery.found import Found
from zmesh.discovery.interfaces import is_numeric

__all__ = ["BootstrapDiscovery"]

RESOLVE_TIMEOUT_S = 10.0
RETRY_S = 2.0  # after a failed look-up; doubled each time
RETRY_MAX_S = 30.0
REFRESH_S = 60.0  # after a successful one: names move rarely


class BootstrapDiscovery:
    """Turns ``tcp://HOST:PORT`` addresses into ``Found``; several if a name has several addresses.

    ``found`` is called once per address, and again when its name resolves to something else; ``failed`` once per
    address that stops resolving. Both on the event loop. Raises ``ConfigurationError`` for text that is no address.
    """

    def __init__(
        self, addresses: Sequence[str], *, found: Callable[[Found], None], failed: Callable[[str], None]
    ) -> None:
        self._addresses = {address: parse_peer_address(address) for address in addresses}
        self._found = found
        self._failed = failed
        self._tasks: list[asyncio.Task[None]] = []
        self._unresolved: set[str] = set()
        self._stopped = False

    @property
    def state(self) -> str:
        """One line for people."""
        if self._stopped:
            return "stopped"
        if not self._addresses:
            return "no addresses given"
        text = f"dialling {', '.join(self._addresses)}"
        return f"{text} (cannot resolve {', '.join(sorted(self._unresolved))})" if self._unresolved else text

    async def start(self) -> None:
        """Yield the numeric addresses at once and begin to resolve the names."""
        for address, (host, port) in self._addresses.items():
            if is_numeric(host):
                self._found(Found((host,), port, f"bootstrap: {address}"))
            else:
                follow = self._follow(address, host, port)
                self._tasks.append(asyncio.create_task(follow, name=f"zmesh resolve {host}"))

    async def stop(self) -> None:
        """Stop resolving. Idempotent."""
        self._stopped = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, address: str, host: str, port: int) -> None:
        known: tuple[str, ...] = ()
        retry_s = RETRY_S
        while True:
            hosts = await self._resolve(address, host)
            if hosts and hosts != known:
                known = hosts
                self._found(Found(hosts, port, f"bootstrap: {address}"))
            await asyncio.sleep(REFRESH_S if hosts else retry_s)
            retry_s = RETRY_S if hosts else min(retry_s * 2, RETRY_MAX_S)

    async def _resolve(self, address: str, host: str) -> tuple[str, ...]:
        """The addresses of ``host``, or () after having reported why there are none."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except TimeoutError:
            self._report(address, f"cannot resolve {host!r}: no answer within {RESOLVE_TIMEOUT_S:.0f} s")
        except (socket.gaierror, UnicodeError) as error:
            reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
            self._report(address, f"cannot resolve {host!r}: {reason}")
        else:
            self._unresolved.discard(address)
            return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
        return ()

    def _report(self, address: str, reason: str) -> None:
        if address not in self._unresolved:
            self._unresolved.add(address)
            self._failed(f"bootstrap address {address}: {reason}; check its spelling, or give a numeric address")
