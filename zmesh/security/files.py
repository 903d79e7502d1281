"""Files that only their owner may read, replaced whole or not at all, and locks that die with their process.

Everything the key directory does to the disk is here, and every way in which it can fail comes out as one
``KeystoreError`` sentence that names the path and the remedy.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zmesh.errors import KeystoreError

__all__ = [
    "FileLock",
    "check_directory",
    "explained",
    "is_there",
    "make_directory",
    "read_private",
    "remove",
    "rename_unless_there",
    "sync_directory",
    "write_private",
]

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
OTHERS = 0o077
OTHERS_WRITE = 0o022
MAX_FILE_BYTES = 64 * 1024 * 1024  # no file of ours comes near; a device or a mistake must not fill the memory
_POLL_S = 0.01
_ELSEWHERE = "or choose another directory with ZMESH_HOME"


def make_directory(path: Path) -> None:
    """Make ``path`` (and its parents) with mode 0700 where it is missing. Raises ``KeystoreError``."""
    with explained("make", path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=DIRECTORY_MODE)
        try:
            path.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            if not path.is_dir():
                raise KeystoreError(f"{path} is not a directory: remove it, {_ELSEWHERE}") from None
            return
        path.chmod(DIRECTORY_MODE)  # the umask may have taken bits away
        sync_directory(path.parent)


def check_directory(path: Path, *, private: bool) -> None:
    """The directory is this user's, and nobody else may change it (or look into it). Raises ``KeystoreError``."""
    with explained("look at", path):
        status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise KeystoreError(f"{path} is not a directory: remove it, {_ELSEWHERE}")
    _check_access(path, status, OTHERS if private else OTHERS_WRITE, DIRECTORY_MODE)


def is_there(path: Path) -> bool:
    """Whether ``path`` exists. Raises ``KeystoreError`` where that cannot be found out."""
    with explained("look at", path):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def read_private(path: Path) -> bytes | None:
    """The bytes of a file that only this user may read; None where there is none. Raises ``KeystoreError``."""
    with explained("read", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with open(descriptor, "rb") as file:
            _check_access(path, os.fstat(descriptor), OTHERS, FILE_MODE)
            data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise KeystoreError(f"{path} is too large to be a file of zmesh: remove it")
    return data


def write_private(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``: after a crash it holds all of the old bytes or all of the new.

    When this returns, the new bytes are on the disk. Raises ``KeystoreError``, and leaves the old file then.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    with explained("write", path):
        try:
            _write_synced(temporary, data)
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a file if it is there. Raises ``KeystoreError``."""
    with explained("remove", path):
        path.unlink(missing_ok=True)


def rename_unless_there(source: Path, target: Path) -> bool:
    """Give a directory its final name, durably; False where another has it. Raises ``KeystoreError``."""
    with explained("make", target):
        try:
            source.rename(target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                return False
            raise
        sync_directory(target.parent)
    return True


def sync_directory(path: Path) -> None:
    """Put the names in a directory on the disk: without it a rename can be lost at power-off. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileLock:
    """An exclusive lock on a file, freed by ``release`` or by the end of the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it. Raises ``KeystoreError`` where the file cannot be opened."""
        with explained("lock", self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                os.fchmod(descriptor, FILE_MODE)  # the umask may have taken bits away
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except OSError:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        return True

    def acquire(self, timeout_s: float) -> None:
        """Take the lock, waiting at most ``timeout_s`` for its holder. Raises ``KeystoreError``."""
        # Asking again and again, because a plain wait has no deadline, and a stopped holder would stop us as well.
        deadline = time.monotonic() + timeout_s
        while not self.try_acquire():
            if time.monotonic() >= deadline:
                raise KeystoreError(
                    f"another process has held {self._path} for {timeout_s:g} s: end it if it hangs, and try again"
                )
            time.sleep(_POLL_S)

    def release(self) -> None:
        """Free the lock; does nothing when it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def explained(action: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a sentence: what could not be done to which path, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise KeystoreError(f"cannot {action} {path}: {_why(error)}") from error


def _why(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"the user {_user_name(os.geteuid())!r} has no permission; give it that, {_ELSEWHERE}"
    if error.errno == errno.EROFS:
        return f"the file system is read-only; {_ELSEWHERE.removeprefix('or ')}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full; make room, {_ELSEWHERE}"
    return f"{(error.strerror or type(error).__name__).lower()}; put that right, {_ELSEWHERE}"


def _check_access(path: Path, status: os.stat_result, forbidden: int, wanted: int) -> None:
    if status.st_uid != os.geteuid():
        owner, me = _user_name(status.st_uid), _user_name(os.geteuid())
        raise KeystoreError(f"{path} belongs to the user {owner!r}, not to {me!r}: run this as {owner!r}, {_ELSEWHERE}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & forbidden:
        raise KeystoreError(
            f"{path} is open to other users (mode {mode:04o}), so its keys cannot be trusted: "
            f"run `chmod {wanted:o} {path}` if nobody else has used it, {_ELSEWHERE}"
        )


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, FILE_MODE)  # the umask may have taken bits away
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
