"""How long the messages of membership are as frames, reckoned and not encoded: for links that carry only so much.

Numbers count as what they usually take, so that a frame may be a few bytes shorter or longer than reckoned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from zmesh.core.membership.messages import (
    Answer,
    Ask,
    Body,
    Fetch,
    Heartbeat,
    Hello,
    Notice,
    Petition,
    Pull,
    Records,
    Refusal,
    Vouch,
)
from zmesh.core.membership.statements import Accusation, Alive, Left, Removal

__all__ = ["frame_bytes"]

FRAME: Final = 3  # the version, the array, the kind
WIDE: Final = 9  # a digest, or a time in milliseconds
NARROW: Final = 1  # a life, a charge, a count
BYTES: Final = 2  # before a string of bytes, or a longer text
ARRAY: Final = 1
STATEMENT: Final = 2  # an array and its kind
PORT: Final = 3
SIGNATURE: Final = BYTES + 64


def frame_bytes(message: Any) -> int:
    """The bytes of the frame that carries a message."""
    return _SIZES[type(message)](message)


def _text(text: str) -> int:
    return len(text) + (1 if len(text) < 32 else BYTES)


def _bytes(data: bytes) -> int:
    return len(data) + (BYTES if len(data) < 256 else BYTES + 1)


def _alive(alive: Alive) -> int:
    contact = alive.contact
    hosts = ARRAY + sum(_text(host) for host in contact.hosts)
    who = ARRAY + _text(contact.node_id) + WIDE + hosts + PORT + _text(contact.machine)
    return STATEMENT + who + 2 * NARROW + _bytes(alive.record_hash) + _bytes(alive.certificate) + SIGNATURE


def _accusation(said: Accusation) -> int:
    return STATEMENT + _text(said.accuser) + _text(said.node_id) + WIDE + 2 * NARROW + SIGNATURE


def _statement(statement: Alive | Left | Removal | Accusation) -> int:
    if isinstance(statement, Alive):
        return _alive(statement)
    if isinstance(statement, Accusation):
        return _accusation(statement)
    about = STATEMENT + _text(statement.node_id) + WIDE
    if isinstance(statement, Left):
        return about + SIGNATURE
    return about + NARROW + ARRAY + sum(_accusation(said) for said in statement.accusations)


def _claim(claim: Ask | Vouch) -> int:
    return FRAME + _text(claim.node_id) + WIDE + 2 * NARROW


def _body(body: Body) -> int:
    statements = sum(map(_statement, body.alive)) + sum(map(_statement, body.gone))
    views = WIDE + WIDE if body.digest else NARROW + NARROW  # without a view: ends alone
    return FRAME + views + 2 * ARRAY + statements


def _pairs(pairs: tuple[tuple[str, bytes], ...]) -> int:
    return FRAME + ARRAY + sum(ARRAY + _text(name) + _bytes(data) for name, data in pairs)


_SIZES: Final[dict[type, Callable[[Any], int]]] = {
    Heartbeat: lambda _: FRAME + 2 * WIDE + PORT + NARROW,
    Answer: lambda _: FRAME + 2 * WIDE,
    Hello: lambda hello: FRAME + _alive(hello.alive) + WIDE + NARROW,
    Petition: lambda petition: FRAME + NARROW + ARRAY + sum(map(_statement, petition.statements)),
    Ask: _claim,
    Vouch: _claim,
    Notice: lambda _: FRAME + WIDE + NARROW,
    Pull: lambda pull: FRAME + WIDE + (NARROW if pull.alive is None else _alive(pull.alive)),
    Body: _body,
    Refusal: lambda refusal: FRAME + _text(refusal.code) + WIDE,
    Fetch: lambda fetch: _pairs(fetch.wanted),
    Records: lambda records: _pairs(records.records),
}
