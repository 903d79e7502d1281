"""Fixtures of the tests of whole nodes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.integration.meshes import LOOPS


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory that is not there yet."""
    return tmp_path / "home"


@pytest.fixture(params=list(LOOPS))
def loop(request: pytest.FixtureRequest) -> str:
    """The test runs once on each event loop."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _log_what_happens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="zmesh")
