"""The authority's ledger: which serials and names it gave out, and which invitations are open or used.

`zmesh invite` writes it in one process while the node redeems invitations in another, so every change is a
transaction under a file lock: read, change, write, and only then answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from zmesh.security.files import FileLock
from zmesh.security.masking import HoldsSecrets
from zmesh.security.stored import load, save

__all__ = ["IssuedCertificate", "Ledger", "LedgerFile", "OpenInvitation"]

DAY_MS = 86_400_000
REMEMBER_MS = 7 * DAY_MS  # how long after its end a used or expired invitation is still told from an unknown one
LOCK_TIMEOUT_S = 5.0  # a transaction takes milliseconds


class IssuedCertificate(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Whom a name belongs to: the keys that it was last certified for."""

    serial: int
    holder: bytes  # ``NodeKeys.holder`` of those keys
    not_after_ms: int


class OpenInvitation(HoldsSecrets, msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """An invitation, open while ``used_by`` is empty."""

    secret: bytes
    expires_ms: int
    used_by: bytes = b""  # the holder that redeemed it


class LedgerFile(HoldsSecrets, msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """``HOME/MESH/authority/ledger.msgpack``."""

    next_serial: int = 1
    certificates: dict[str, IssuedCertificate] = msgspec.field(default_factory=dict)  # by name
    invitations: dict[bytes, OpenInvitation] = msgspec.field(default_factory=dict)  # by invitation id

    def may_have(self, name: str, holder: bytes) -> bool:
        """Whether nobody but ``holder`` has this name."""
        issued = self.certificates.get(name)
        return issued is None or issued.holder == holder

    def record(self, name: str, holder: bytes, not_after_ms: int) -> int:
        """Note a new certificate; its serial."""
        serial, self.next_serial = self.next_serial, self.next_serial + 1
        self.certificates[name] = IssuedCertificate(serial, holder, not_after_ms)
        return serial

    def forget_invitations(self, now_ms: int) -> None:
        """Drop the invitations that are long over, so that the file stays small.

        Names are never dropped: a clock that runs years ahead for an hour would give them all away.
        """
        self.invitations = {k: v for k, v in self.invitations.items() if v.expires_ms + REMEMBER_MS > now_ms}


class Ledger:
    """The ledger in one authority directory. Blocks on the disk; safe between threads and processes."""

    def __init__(self, directory: Path, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self._path = directory / "ledger.msgpack"
        self._lock_path = directory / "ledger.lock"
        self._lock_timeout_s = lock_timeout_s

    @contextmanager
    def transaction(self, now_ms: int) -> Iterator[LedgerFile]:
        """The ledger to read and change: saved durably at the end of the block, unless the block raised.

        Raises ``KeystoreError``.
        """
        lock = FileLock(self._lock_path)
        lock.acquire(self._lock_timeout_s)
        try:
            content = load(self._path, LedgerFile) or LedgerFile()
            content.forget_invitations(now_ms)
            yield content
            save(self._path, content)
        finally:
            lock.release()
