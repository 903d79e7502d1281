"""Files are replaced whole or not at all, locks die with their process, and every failure is one sentence."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from zmesh.errors import KeystoreError
from zmesh.security import files
from zmesh.security.files import FileLock, check_directory, explained, read_private, rename_unless_there, write_private
from zmesh.security.stored import AuthorityFile, MeshFile, load, save

ROOT = Path(__file__).parents[2]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    assert read_private(tmp_path / "x") is None
    for data in (b"", b"one", b"2" * 100_000):
        write_private(tmp_path / "x", data)
        assert read_private(tmp_path / "x") == data
    assert os.listdir(tmp_path) == ["x"]


def test_a_write_that_fails_midway_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_private(tmp_path / "x", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the kernel stops the write in the middle, as a full disk
    try:
        with pytest.raises(KeystoreError, match=r"cannot write .*/x: file too large"):
            write_private(tmp_path / "x", b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_private(tmp_path / "x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(descriptor: int) -> None:
        steps.append("directory" if os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path) else "file")
        fsync(descriptor)

    def watched_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    write_private(tmp_path / "x", b"data")
    assert steps == ["file", "rename", "directory"]


def test_a_reader_never_sees_half_a_file_even_if_the_writer_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from zmesh.security.stored import *\n"
        "path = pathlib.Path(sys.argv[1]); save(path, AuthorityFile(b'x')); print('up', flush=True)\n"
        "while True:\n    for size in (1, 100_000): save(path, AuthorityFile(b'x' * size))"
    )
    path = tmp_path / "key.msgpack"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        seen = set()
        for _ in range(10_000):
            key = load(path, AuthorityFile)
            assert key is not None
            seen.add(len(key.signing_seed))
            if len(seen) == 2:
                break
        process.kill()
    assert seen == {1, 100_000}
    assert load(path, AuthorityFile) is not None


def test_a_file_of_another_kind_is_told_as_damage(tmp_path: Path) -> None:
    save(tmp_path / "x", AuthorityFile(b"seed"))
    with pytest.raises(KeystoreError, match="damaged or from another version"):
        load(tmp_path / "x", MeshFile)


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    write_private(tmp_path / "x", b"x" * 11)
    with pytest.raises(KeystoreError, match="too large"):
        read_private(tmp_path / "x")


def test_a_directory_is_moved_only_where_nothing_is(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert rename_unless_there(tmp_path / "a", tmp_path / "target")
    assert not rename_unless_there(tmp_path / "b", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "a"
    with pytest.raises(KeystoreError, match="cannot make"):
        rename_unless_there(tmp_path / "b", tmp_path / "missing" / "target")


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(KeystoreError, match="is not a directory"):
        check_directory(tmp_path / "x", private=True)


def test_a_lock_is_held_by_one_and_freed_by_release(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.try_acquire()
    assert not second.try_acquire()
    with pytest.raises(KeystoreError, match=r"has held .*/lock for 0\.02 s"):
        second.acquire(0.02)
    first.release()
    first.release()
    second.acquire(0.02)
    second.release()


def test_a_lock_is_not_handed_to_programs_that_its_holder_starts(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.try_acquire()
    command = [sys.executable, "-c", "print('up', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        lock.release()
        assert lock.try_acquire()
        lock.release()
        child.communicate(b"\n")


def test_a_lock_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="cannot lock"):
        FileLock(tmp_path / "missing" / "lock").try_acquire()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "has no permission"),
        (errno.EPERM, "has no permission"),
        (errno.EROFS, "file system is read-only"),
        (errno.ENOSPC, "disk is full; make room"),
        (errno.EDQUOT, "disk is full; make room"),
        (errno.EIO, "input/output error"),
    ],
)
def test_every_failure_of_the_disk_is_a_sentence_with_a_remedy(number: int, words: str) -> None:
    with pytest.raises(KeystoreError) as caught, explained("write", Path("/x/key")):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith("cannot write /x/key: ")
    assert words in str(caught.value)
    assert "ZMESH_HOME" in str(caught.value)
