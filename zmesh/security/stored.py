"""What the files of the key directory hold, and the envelope that shows when one was damaged.

Every file is a MessagePack array of its kind, a BLAKE2b checksum of the body, and the body. The checksum is no
protection against an attacker, who is kept out by the file's mode; it tells a disk's error from a wrong key.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

import msgspec

from zmesh.errors import KeystoreError
from zmesh.security.files import read_private, write_private
from zmesh.security.masking import HoldsSecrets

__all__ = ["AuthorityFile", "IdentityFile", "MeshFile", "load", "save"]

CHECKSUM_BYTES = 16


class MeshFile(HoldsSecrets, msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """``HOME/MESH/mesh.msgpack``: what every member of the mesh holds."""

    name: str
    authority_public: bytes
    gate_secret: bytes  # Z85


class AuthorityFile(HoldsSecrets, msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """``HOME/MESH/authority/key.msgpack``, on the machine that founded the mesh only."""

    signing_seed: bytes


class IdentityFile(HoldsSecrets, msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """``HOME/MESH/nodes/NAME/identity.msgpack``."""

    name: str
    curve_secret: bytes  # Z85
    signing_seed: bytes
    certificate: bytes


class _Envelope(HoldsSecrets, msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    kind: str
    checksum: bytes
    body: bytes


_Stored = TypeVar("_Stored", bound=msgspec.Struct)


def save(path: Path, value: msgspec.Struct) -> None:
    """Write a stored object, durably. Raises ``KeystoreError``."""
    body = msgspec.msgpack.encode(value)
    write_private(path, msgspec.msgpack.encode(_Envelope(_kind(type(value)), _checksum(body), body)))


def load(path: Path, kind: type[_Stored]) -> _Stored | None:
    """Read a stored object; None where there is no such file. Raises ``KeystoreError``, also for a damaged one."""
    data = read_private(path)
    if data is None:
        return None
    try:
        envelope = msgspec.msgpack.decode(data, type=_Envelope)
        if envelope.kind == _kind(kind) and envelope.checksum == _checksum(envelope.body):
            return msgspec.msgpack.decode(envelope.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # told below, like a wrong checksum; the decoder's words would not help, and could quote a key
    raise KeystoreError(
        f"the file {path} is damaged or from another version of zmesh: restore it from a backup, or move it away"
    )


def _kind(kind: type[msgspec.Struct]) -> str:
    return f"zmesh/{kind.__name__.removesuffix('File').lower()}/1"


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body).digest()[:CHECKSUM_BYTES]
