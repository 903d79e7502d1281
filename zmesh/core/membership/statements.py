"""What nodes state under their signature, and which of two statements about one node counts.

Statements pass through third hands, so each carries its author's signature: nobody can make another node join, leave,
move or accuse. The core never sees a key; a ``Notary`` signs for this node and checks what others signed.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from zmesh.core.membership.member import Contact

__all__ = ["Accusation", "Alive", "Charge", "Gone", "Left", "Notary", "Removal", "Statement", "outlives", "signed"]

TOKEN_BYTES = 8


@dataclass(frozen=True, slots=True)
class Alive:
    """I live, here; this is my certificate, and the hash of my record. Of two the greater ``order`` counts."""

    contact: Contact
    life: int  # raised to refute: what was said of an earlier life is void
    version: int  # of the record, the contact and the certificate
    record_hash: bytes
    certificate: bytes
    signature: bytes = b""
    node_id: str = field(init=False, compare=False, repr=False)
    incarnation: int = field(init=False, compare=False, repr=False)
    token: int = field(init=False, compare=False, repr=False)  # its share in the digest of a view

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "node_id", self.contact.node_id)
        put(self, "incarnation", self.contact.incarnation)
        text = f"{self.node_id}\0{self.incarnation}\0{self.life}\0{self.version}".encode()
        digest = hashlib.blake2b(text, digest_size=TOKEN_BYTES).digest()
        put(self, "token", int.from_bytes(digest, "big"))

    @property
    def order(self) -> tuple[int, int, int]:
        """Of two about one node, the greater counts."""
        return (self.incarnation, self.life, self.version)

    def payload(self) -> bytes:
        """What is signed."""
        contact = self.contact
        hosts = ",".join(contact.hosts)
        text = (
            f"alive\0{self.node_id}\0{self.incarnation}\0{self.life}\0{self.version}\0{hosts}\0"
            f"{contact.introduction_port}\0{contact.machine}\0"
        )
        return text.encode() + self.record_hash + hashlib.blake2b(self.certificate, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Left:
    """I leave. Final for the incarnation."""

    node_id: str
    incarnation: int
    signature: bytes = b""

    def payload(self) -> bytes:
        """What is signed."""
        return f"left\0{self.node_id}\0{self.incarnation}".encode()


class Charge(enum.IntEnum):
    """What an observer has against a node."""

    SILENT = 0  # refuted by any sign of life
    LOSSY = 1  # most of its heartbeats are lost: a sign of life now and then does not refute that
    ENDED = 2  # its kernel refuses connections to its port: silent, and nothing to wait for


@dataclass(frozen=True, slots=True)
class Accusation:
    """I, an observer of that node, do not hear it."""

    accuser: str
    node_id: str
    incarnation: int
    life: int
    charge: Charge
    signature: bytes = b""

    def payload(self) -> bytes:
        """What is signed."""
        text = f"accusation\0{self.accuser}\0{self.node_id}\0{self.incarnation}\0{self.life}\0{int(self.charge)}"
        return text.encode()


@dataclass(frozen=True, slots=True)
class Removal:
    """That life is over, say those observers. The steward who puts them together need not be believed."""

    node_id: str
    incarnation: int
    life: int
    accusations: tuple[Accusation, ...]


Gone = Removal | Left
Statement = Alive | Left | Accusation
_S = TypeVar("_S", Alive, Left, Accusation)


class Notary(Protocol):
    """Signs for this node, and checks signatures."""

    def sign(self, payload: bytes) -> bytes:
        """This node's signature."""

    def verify(self, author: Alive, statement: Statement) -> bool:
        """Whether ``author``, whose certificate is checked too, signed that."""


def signed(statement: _S, notary: Notary) -> _S:
    """The statement with this node's signature."""
    return replace(statement, signature=notary.sign(statement.payload()))


def outlives(alive: Alive, gone: Gone | None) -> bool:
    """Whether the statement of life is newer than that end."""
    if gone is None:
        return True
    if isinstance(gone, Left):
        return alive.incarnation > gone.incarnation
    return (alive.incarnation, alive.life) > (gone.incarnation, gone.life)
