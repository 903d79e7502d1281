"""Host names to addresses, off the thread: libzmq would resolve them in its I/O thread and halt every connection."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable

__all__ = ["Resolver", "is_literal"]

MAX_LOOKUPS = 64  # at once; a name server that does not answer holds each for some 10 s
MAX_ADDRESSES = 8  # of one name


def is_literal(host: str) -> bool:
    """Whether ``host`` is an IPv4 or IPv6 address (with or without a zone) and needs no looking up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Resolver:
    """Looks names up, each on a daemon thread of its own, so that a slow name server delays nothing else."""

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(MAX_LOOKUPS)

    def resolve(self, host: str, answer: Callable[[tuple[str, ...], str], None]) -> None:
        """Call ``answer(addresses, error)``, on another thread unless this fails at once; one of the two is empty."""
        if not self._slots.acquire(blocking=False):
            answer((), "too many names are being looked up")
            return
        threading.Thread(target=self._look_up, args=(host, answer), name=f"zmesh-resolve-{host}", daemon=True).start()

    def _look_up(self, host: str, answer: Callable[[tuple[str, ...], str], None]) -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answer((), f"cannot look up {host}: {getattr(error, 'strerror', None) or error}")
        else:
            answer(tuple(dict.fromkeys(str(info[4][0]) for info in found))[:MAX_ADDRESSES], "")
        finally:
            self._slots.release()
