"""A simulated disk: a small store of files that a journal can be written against, and that fails as disks do.

Reads see what was written. A power-off keeps what ``sync`` secured and, of the rest, what chance decides: of each
unsynced write all, nothing, or (torn) a part; of each unsynced change of the directory (a file made, renamed or
removed) all that was done up to some point. Killing the process alone loses nothing: the kernel has the writes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

__all__ = ["SECTOR_BYTES", "Disk", "DiskConditions", "DiskFile"]

SECTOR_BYTES: Final = 512  # what a disk writes whole or not at all


@dataclass(slots=True)
class DiskConditions:
    """How the disk behaves now. Shares are probabilities for each call."""

    sync_s: float = 0.0  # what a sync costs the process
    capacity_bytes: int | None = None  # full beyond this
    write_error: float = 0.0  # EIO
    read_error: float = 0.0
    sync_error: float = 0.0  # EIO; what was written since the last sync may or may not be there
    torn: float = 0.5  # of the writes that a power-off catches unsynced and that are not simply kept or gone


@dataclass(slots=True)
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)  # writes; None: a cut at that length

    def apply(self, change: tuple[int, bytes | None]) -> None:
        """A write or a cut reaches the disk."""
        offset, data = change
        if data is None:
            del self.durable[offset:]
        else:
            _write(self.durable, offset, data)


_Change = dict[str, _Inode | None]  # names that lead to another file from then on, or to none, all at once


class Disk:
    """Files by name, in one flat directory."""

    def __init__(self, chance: random.Random, spend: Callable[[float], None]) -> None:
        self.conditions = DiskConditions()
        self._chance = chance
        self._spend = spend  # time of the process
        self._entries: dict[str, _Inode] = {}
        self._durable_entries: dict[str, _Inode] = {}
        self._changes: list[_Change] = []  # of the directory, since it was synced

    # -- the directory -------------------------------------------------------------------------------------------------

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        """A file. Raises ``FileNotFoundError`` unless it exists or may be made."""
        inode = self._entries.get(name)
        if inode is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", name)
            inode = _Inode()
            self._enter({name: inode})
        return DiskFile(self, name, inode)

    def names(self) -> list[str]:
        """The files there are, sorted."""
        return sorted(self._entries)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in place of a file that may have it; at a power-off either has happened."""
        self._enter({new: self.open(old).inode, old: None})

    def remove(self, name: str) -> None:
        """Remove a file."""
        self.open(name)
        self._enter({name: None})

    def sync_directory(self) -> None:
        """Secure what was made, renamed and removed."""
        self._begin_sync()
        self._durable_entries = dict(self._entries)
        self._changes.clear()

    # -- faults --------------------------------------------------------------------------------------------------------

    def power_off(self) -> None:
        """What was not secured is left to chance."""
        for inode in self._inodes():
            self._reach(inode)
            inode.data = bytearray(inode.durable)
        kept = self._chance.randint(0, len(self._changes))
        for change in self._changes[:kept]:
            _apply(self._durable_entries, change)
        self._entries = dict(self._durable_entries)
        self._changes.clear()

    def flip_bit(self) -> str:
        """One bit of what is stored turns over; in which file. An empty disk has none to turn."""
        files = [name for name in self.names() if self._entries[name].data]
        if not files:
            return ""
        name = self._chance.choice(files)
        inode = self._entries[name]
        position, bit = self._chance.randrange(len(inode.data)), 1 << self._chance.randrange(8)
        inode.data[position] ^= bit
        if position < len(inode.durable):
            inode.durable[position] ^= bit
        return name

    @property
    def used_bytes(self) -> int:
        """Of all files."""
        return sum(len(inode.data) for inode in self._entries.values())

    # -- for files -----------------------------------------------------------------------------------------------------

    def fail_sometimes(self, share: float, what: str) -> None:
        """Raise ``OSError`` (EIO) as often as ``share`` says."""
        if share and self._chance.random() < share:
            raise OSError(errno.EIO, what)

    def make_room(self, more_bytes: int) -> None:
        """Raise ``OSError`` (ENOSPC) if the disk is full."""
        capacity = self.conditions.capacity_bytes
        if capacity is not None and self.used_bytes + more_bytes > capacity:
            raise OSError(errno.ENOSPC, "no space left on the simulated disk")

    def sync(self, inode: _Inode) -> None:
        """Secure the content of a file. After an error the kernel takes for written what was not, as Linux does."""
        try:
            self._begin_sync()
        except OSError:
            self._reach(inode)
            raise
        for change in inode.unsynced:
            inode.apply(change)
        inode.unsynced.clear()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _begin_sync(self) -> None:
        self._spend(self.conditions.sync_s)
        self.fail_sometimes(self.conditions.sync_error, "the simulated disk could not be synced")

    def _enter(self, change: _Change) -> None:
        _apply(self._entries, change)
        self._changes.append(change)

    def _inodes(self) -> list[_Inode]:
        """Each once, in an order that the same run repeats."""
        changed = [inode for change in self._changes for inode in change.values() if inode is not None]
        found: list[_Inode] = []
        for inode in [*self._entries.values(), *self._durable_entries.values(), *changed]:
            if not any(inode is other for other in found):
                found.append(inode)
        return found

    def _reach(self, inode: _Inode) -> None:
        """Some of what is not secured reaches the disk."""
        for change in inode.unsynced:
            if self._chance.random() < 0.5:
                offset, data = change
                inode.apply(change if data is None else (offset, data[: self._how_much(len(data))]))
        inode.unsynced.clear()

    def _how_much(self, length: int) -> int:
        """Of a write that reached the disk: all, or some of its sectors, or some of its bytes."""
        if self._chance.random() >= self.conditions.torn:
            return length
        kept = self._chance.randint(0, length)
        return kept - kept % SECTOR_BYTES if self._chance.random() < 0.5 else kept


class DiskFile:
    """An open file. Offsets and lengths in bytes."""

    __slots__ = ("_disk", "inode", "name")

    def __init__(self, disk: Disk, name: str, inode: _Inode) -> None:
        self._disk = disk
        self.name = name
        self.inode = inode

    def __len__(self) -> int:
        return len(self.inode.data)

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """What is there; shorter at the end of the file. Raises ``OSError`` (EIO)."""
        self._disk.fail_sometimes(self._disk.conditions.read_error, "the simulated disk could not be read")
        end = len(self.inode.data) if length is None else offset + length
        return bytes(self.inode.data[offset:end])

    def write(self, offset: int, data: bytes) -> None:
        """Write; secured only by ``sync``. Raises ``OSError`` (EIO, ENOSPC), having written nothing."""
        disk, inode = self._disk, self.inode
        disk.make_room(max(offset + len(data) - len(inode.data), 0))
        disk.fail_sometimes(disk.conditions.write_error, "the simulated disk could not be written")
        _write(inode.data, offset, data)
        inode.unsynced.append((offset, bytes(data)))

    def append(self, data: bytes) -> int:
        """Write at the end; the offset."""
        offset = len(self.inode.data)
        self.write(offset, data)
        return offset

    def truncate(self, length: int) -> None:
        """Cut the file off; secured only by ``sync``."""
        del self.inode.data[length:]
        self.inode.unsynced.append((length, None))

    def sync(self) -> None:
        """Secure the content; the name is secured by ``Disk.sync_directory``. Raises ``OSError`` (EIO)."""
        self._disk.sync(self.inode)


def _apply(entries: dict[str, _Inode], change: _Change) -> None:
    for name, inode in change.items():
        if inode is None:
            entries.pop(name, None)
        else:
            entries[name] = inode


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))  # a hole reads as zeros
    content[offset : offset + len(data)] = data
