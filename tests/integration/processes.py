"""Nodes as processes of their own, which can be killed and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import zmesh
from tests.integration.meshes import PATIENCE_S

ROOT = Path(__file__).parents[2]
NUMBER_BYTES = 8


class Child:
    """A running ``child.py``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> None:
        await asyncio.to_thread(self._process.wait, PATIENCE_S)


@asynccontextmanager
async def child(home: Path, node_id: str, by: zmesh.AgentNetwork, file: Path) -> AsyncIterator[Child]:
    """Start a child, and wait until ``by`` knows its agent 9; killed at the end, if it still runs."""
    arguments = [str(home), node_id, by.info().addresses[0], str(file)]
    process = _start([sys.executable, str(Path(__file__).with_name("child.py")), *arguments])
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
        await by.registry.wait_for_agent(9, PATIENCE_S)
        yield Child(process)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
        process.stdin.close()
        process.stdout.close()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def numbers(file: Path) -> list[int]:
    """What a child has written down; a number that was cut off by its death is left out."""
    data = file.read_bytes() if file.exists() else b""
    whole = len(data) // NUMBER_BYTES * NUMBER_BYTES
    return [int.from_bytes(data[at : at + NUMBER_BYTES], "big") for at in range(0, whole, NUMBER_BYTES)]


def number_payload(number: int, size: int = NUMBER_BYTES) -> bytes:
    """A payload that carries a number."""
    return number.to_bytes(NUMBER_BYTES, "big") + bytes(size - NUMBER_BYTES)
