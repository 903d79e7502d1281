"""What every way of discovery yields."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Found"]


@dataclass(frozen=True, slots=True)
class Found:
    """One place where a node may answer: any of ``hosts`` (best first, IPv6 without brackets), one ``port``.

    ``port`` is the introduction port. ``source`` says for the log what told us, as in ``"mDNS: desk"``; it is a claim
    of whoever announced it, never to be trusted.
    """

    hosts: tuple[str, ...]
    port: int
    source: str
