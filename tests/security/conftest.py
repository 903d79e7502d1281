"""A founder's keystore for each test, and a way to be a user without root's powers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.makers import founded
from zmesh.security import Keystore

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
