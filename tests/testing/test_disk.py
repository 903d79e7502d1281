"""The simulated disk: what is secured stays, what is not may go in every way in which disks lose it."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from zmesh.testing.disk import Disk


def make(seed: int = 1) -> Disk:
    return Disk(random.Random(seed), lambda _seconds: None)


def after_power_off(work: Callable[[Disk], object], seeds: int = 200) -> list[dict[str, bytes]]:
    """The distinct contents that a disk may have after this work and a power-off."""
    found: dict[str, dict[str, bytes]] = {}
    for seed in range(seeds):
        disk = make(seed)
        work(disk)
        disk.power_off()
        contents = {name: disk.open(name).read() for name in disk.names()}
        found[str(contents)] = contents
    return [contents for _, contents in sorted(found.items())]


def secured(disk: Disk, name: str, data: bytes) -> None:
    file = disk.open(name, create=True)
    file.append(data)
    file.sync()
    disk.sync_directory()


def test_what_is_written_is_read() -> None:
    disk = make()
    file = disk.open("a", create=True)
    assert file.append(b"hello") == 0
    assert file.append(b" world") == 5
    file.write(0, b"J")
    file.write(13, b"!")
    assert file.read() == b"Jello world\0\0!"
    assert file.read(6, 5) == b"world"
    file.truncate(4)
    assert (file.read(), len(file), disk.used_bytes) == (b"Jell", 4, 4)
    with pytest.raises(FileNotFoundError):
        disk.open("b")


def test_what_is_secured_survives_and_a_name_needs_its_directory() -> None:
    assert after_power_off(lambda disk: secured(disk, "a", b"kept")) == [{"a": b"kept"}]

    def without_directory(disk: Disk) -> None:
        file = disk.open("a", create=True)
        file.append(b"kept")
        file.sync()

    assert after_power_off(without_directory) == [{"a": b"kept"}, {}]


def test_an_unsynced_write_may_be_there_not_there_or_torn() -> None:
    def work(disk: Disk) -> None:
        secured(disk, "a", b"old.")
        disk.open("a").append(b"0123456789")

    contents = [found["a"] for found in after_power_off(work)]
    assert b"old." in contents
    assert b"old.0123456789" in contents
    torn = [content for content in contents if 4 < len(content) < 14]
    assert torn
    assert all(b"old.0123456789".startswith(content) for content in contents)


def test_writes_reach_the_disk_in_any_order() -> None:
    def work(disk: Disk) -> None:
        secured(disk, "a", b"____")
        file = disk.open("a")
        for position in range(4):
            file.write(position, b"x")

    assert len(after_power_off(work)) == 16


def test_the_directory_changes_in_order_and_a_rename_at_once() -> None:
    def work(disk: Disk) -> None:
        secured(disk, "a", b"old")
        new = disk.open("a.new", create=True)
        new.append(b"new")
        new.sync()
        disk.rename("a.new", "a")

    assert after_power_off(work) == [{"a": b"new"}, {"a": b"old", "a.new": b"new"}, {"a": b"old"}]


def test_a_removed_file_may_come_back() -> None:
    def work(disk: Disk) -> None:
        secured(disk, "a", b"x")
        disk.remove("a")

    assert after_power_off(work) == [{"a": b"x"}, {}]


def test_a_cut_off_end_may_come_back() -> None:
    def work(disk: Disk) -> None:
        secured(disk, "a", b"long")
        disk.open("a").truncate(1)

    assert after_power_off(work) == [{"a": b"l"}, {"a": b"long"}]


def test_a_full_disk_takes_what_fits() -> None:
    disk = make()
    disk.conditions.capacity_bytes = 4
    file = disk.open("a", create=True)
    file.append(b"123")
    with pytest.raises(OSError, match="no space") as told:
        file.append(b"45")
    assert told.value.errno == errno.ENOSPC
    file.write(0, b"abc")
    file.append(b"4")
    assert file.read() == b"abc4"


def test_errors_come_as_often_as_said() -> None:
    disk = make()
    file = disk.open("a", create=True)
    disk.conditions.write_error = disk.conditions.read_error = 0.25
    failed = 0
    for attempt in (lambda: file.append(b"x"), file.read):
        for _ in range(1000):
            try:
                attempt()
            except OSError as error:
                failed += error.errno == errno.EIO
    assert failed == pytest.approx(500, rel=0.15)


def test_after_a_failed_sync_the_next_one_secures_nothing_of_it() -> None:
    """As on Linux: the kernel takes the failed pages for clean; a journal that tries again has been told a lie."""

    def work(disk: Disk) -> None:
        secured(disk, "a", b"")
        file = disk.open("a")
        file.append(b"x")
        disk.conditions.sync_error = 1.0
        with pytest.raises(OSError, match="synced"):
            file.sync()
        disk.conditions.sync_error = 0.0
        file.sync()
        assert file.read() == b"x"

    assert {"a": b""} in after_power_off(work)


def test_a_bit_flips_in_what_is_secured_too() -> None:
    disk = make()
    assert disk.flip_bit() == ""
    secured(disk, "a", bytes(8))
    assert disk.flip_bit() == "a"
    disk.power_off()
    assert sum(byte.bit_count() for byte in disk.open("a").read()) == 1
