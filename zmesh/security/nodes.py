"""The node identities in a mesh's directory: their files, and which of them live processes hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zmesh.core.trust.certificate import NAME_PATTERN
from zmesh.errors import KeystoreError
from zmesh.security.files import FileLock, explained, is_there, make_directory, read_private, remove, write_private
from zmesh.security.keys import NodeKeys
from zmesh.security.masking import HoldsSecrets
from zmesh.security.stored import IdentityFile, load, save

__all__ = ["Claimed", "NodeStore", "RunningNode", "StoredNode"]

GUARD_TIMEOUT_S = 10.0  # the guard is held for milliseconds; this long only by a process that was stopped
CLOCK_SET_BACK_MS = 1_000_000  # sessions are numbered from the incarnation on: more than a node opens in one life
MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node of this home directory that is alive now."""

    node_id: str
    pid: int
    addresses: tuple[str, ...]  # "tcp://HOST:PORT" of its introduction port, best first


@dataclass(frozen=True, slots=True)
class StoredNode(HoldsSecrets):
    """What is kept of a node: its keys, and its certificate chain."""

    name: str
    keys: NodeKeys
    certificate: bytes


class Claimed:
    """The right to be one stored node, until released or until the process ends."""

    def __init__(self, directory: Path, node_id: str, lock: FileLock) -> None:
        self._announcement = directory / "running.json"
        self._last_incarnation = directory / "incarnation"
        self._node_id = node_id
        self._lock = lock

    def new_incarnation(self, now_ms: int) -> int:
        """The wall clock, or more: above all earlier starts of the node and their sessions, wherever the clock was.

        Raises ``KeystoreError``.
        """
        last = self._read_incarnation()
        incarnation = now_ms if now_ms > last else last + CLOCK_SET_BACK_MS
        write_private(self._last_incarnation, str(incarnation).encode())
        return incarnation

    def _read_incarnation(self) -> int:
        data = read_private(self._last_incarnation)
        if data is None:
            return 0
        if not (data.isdigit() and len(data) < MAX_DIGITS):
            raise KeystoreError(f"the file {self._last_incarnation} is damaged: remove it")
        return int(data)

    def announce(self, addresses: Sequence[str]) -> None:
        """Tell other processes of this home that the node runs, and where. Raises ``KeystoreError``."""
        content = {"node_id": self._node_id, "pid": os.getpid(), "addresses": list(addresses)}
        write_private(self._announcement, json.dumps(content).encode())

    def withdraw(self) -> None:
        """Take the announcement back. Raises ``KeystoreError``."""
        remove(self._announcement)

    def release(self) -> None:
        """Give the node up. Raises ``KeystoreError`` where the disk fails; it is given up even then."""
        try:
            self.withdraw()
        finally:
            self._lock.release()


class NodeStore:
    """The directory ``HOME/MESH/nodes``. Blocks on the disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Alone with the directory. Claiming and asking who runs both try locks, and must not see each other do it."""
        make_directory(self._directory)
        lock = FileLock(self._directory / ".lock")
        lock.acquire(GUARD_TIMEOUT_S)
        try:
            yield
        finally:
            lock.release()

    def names(self) -> list[str]:
        """The names of the stored nodes, sorted."""
        make_directory(self._directory)
        with explained("read", self._directory):
            names = [entry.name.replace("+", "/") for entry in self._directory.iterdir()]
        return sorted(name for name in names if NAME_PATTERN.fullmatch(name) and self._is_stored(name))

    def load(self, name: str) -> StoredNode | None:
        """A stored node; None where there is none of this name. Raises ``KeystoreError``."""
        path = self._path(name) / "identity.msgpack"
        stored = load(path, IdentityFile)
        if stored is None:
            return None
        if stored.name != name:
            raise KeystoreError(f"the file {path} belongs to the node {stored.name!r}: move it back there")
        try:
            keys = NodeKeys(curve_secret=stored.curve_secret, signing_seed=stored.signing_seed)
        except ValueError:
            raise KeystoreError(f"the file {path} holds no proper keys: restore it from a backup") from None
        return StoredNode(name, keys, stored.certificate)

    def save(self, node: StoredNode) -> None:
        """Store a node, durably. Raises ``KeystoreError``."""
        make_directory(self._path(node.name))
        content = IdentityFile(node.name, node.keys.curve_secret, node.keys.signing_seed, node.certificate)
        save(self._path(node.name) / "identity.msgpack", content)

    def try_claim(self, name: str) -> Claimed | None:
        """The right to be ``name``; None while a live process has it. Call it under the guard."""
        directory = self._path(name)
        make_directory(directory)
        lock = FileLock(directory / "lock")
        if not lock.try_acquire():
            return None
        claimed = Claimed(directory, name, lock)
        try:
            claimed.withdraw()  # what a predecessor that crashed left
        except KeystoreError:
            lock.release()
            raise
        return claimed

    def announcement(self, name: str) -> RunningNode | None:
        """What the process that has ``name`` said of itself; None where nothing was said yet."""
        data = read_private(self._path(name) / "running.json")
        if data is None:
            return None
        try:
            content = json.loads(data)
            return RunningNode(name, int(content["pid"]), tuple(str(address) for address in content["addresses"]))
        except (ValueError, KeyError, TypeError):
            raise KeystoreError(f"the file {self._path(name) / 'running.json'} is damaged: remove it") from None

    def running(self) -> list[RunningNode]:
        """The nodes that live processes have claimed and announced. A crashed node's lock died with it."""
        with self.guard():
            held = [name for name in self.names() if self._is_held(name)]
            return [node for node in map(self.announcement, held) if node is not None]

    def _is_held(self, name: str) -> bool:
        lock = FileLock(self._path(name) / "lock")
        if not lock.try_acquire():
            return True
        lock.release()
        return False

    def _is_stored(self, name: str) -> bool:
        return is_there(self._path(name) / "identity.msgpack")

    def _path(self, name: str) -> Path:
        # A name has at most one slash and never a plus: "desk/2" lives beside "desk", not among its files.
        return self._directory / name.replace("/", "+")
