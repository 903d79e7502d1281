"""A founder's keystore for each test, and a way to be a user without root's powers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.security.makers import NOW, founded, joined
from zmesh.security import Claim, Keystore

NOBODY = 65534


@pytest.fixture
def founder(tmp_path: Path) -> Keystore:
    return founded(tmp_path / "founder")


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory of this test's user, who is not root: root may write anywhere, so nothing would be tested."""
    directory = Path(tempfile.mkdtemp(prefix="zmesh-test-"))
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(directory, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield directory
    if is_root:
        os.seteuid(0)
    shutil.rmtree(directory)


@pytest.fixture
def claim() -> Iterator[Callable[..., Claim]]:
    """Claims that are released at the end of the test."""
    made: list[Claim] = []

    def make(keystore: Keystore, node_id: str | None = None, *, client: bool = False, now_ms: int = NOW) -> Claim:
        made.append(keystore.claim(node_id, client=client, now_ms=now_ms))
        return made[-1]

    yield make
    for each in made:
        each.release()


@pytest.fixture
def laptop(founder: Keystore, tmp_path: Path) -> Keystore:
    return joined(founder, tmp_path / "joiner")
