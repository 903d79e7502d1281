"""A TCP proxy in this process, between nodes: cuts and stalls connections that the nodes believe to be direct.

A node listens on one loopback address and advertises another, where the proxy listens on the same four ports.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from types import TracebackType
from typing import Any, Self

CHUNK_BYTES = 64 * 1024
PORTS = 4
INTRODUCTION, CONTROL, DATA, PUBLISH = range(PORTS)


class Proxy:
    """In front of one node, which is started with its ``settings``; ``number`` tells the nodes of a test apart."""

    def __init__(self, number: int) -> None:
        self._shown, self._hidden = f"127.0.2.{number}", f"127.0.1.{number}"
        self._base = 0
        self._may_pass = [asyncio.Event() for _ in range(PORTS)]
        for plane in range(PORTS):
            self.release(plane)
        self._servers: list[asyncio.Server] = []
        self._writers: dict[asyncio.StreamWriter, int] = {}  # by the plane they belong to
        self._tasks: set[asyncio.Task[None]] = set()
        self.passed_bytes = [0] * PORTS
        self.accepted = [0] * PORTS

    async def __aenter__(self) -> Self:
        for base in range(12_000 + os.getpid() % 1000 * 16, 32_000, PORTS):
            try:
                await self._listen(base)
            except OSError:
                self._close_servers()
            else:
                break
        return self

    async def _listen(self, base: int) -> None:
        self._base = base
        for plane in range(PORTS):

            async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plane: int = plane) -> None:
                await self._serve(plane, reader, writer)

            self._servers.append(await asyncio.start_server(accepted, self._shown, base + plane))

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    @property
    def settings(self) -> dict[str, Any]:
        """What the node behind is configured with."""
        return {"listen": f"tcp://{self._hidden}:{self._base}", "advertise": (self._shown,)}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_servers()
        for plane in range(PORTS):
            self.release(plane)
            self.reset(plane)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self, plane: int) -> int:
        """Reset every connection of a plane, in the midst of whatever it carries; how many there were."""
        writers = [
            writer
            for writer, its_plane in self._writers.items()
            if its_plane == plane and not writer.transport.is_closing()
        ]
        for writer in writers:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return len(writers) // 2

    def hold(self, plane: int) -> None:
        """Let nothing pass on a plane, either way, until it is released."""
        self._may_pass[plane].clear()

    def release(self, plane: int) -> None:
        """Let everything pass again."""
        self._may_pass[plane].set()

    async def _serve(self, plane: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted[plane] += 1
        try:
            onward, backward = await asyncio.open_connection(self._hidden, self._base + plane)
        except OSError:
            writer.close()
            self._tasks.discard(task)
            return
        self._writers[writer] = self._writers[backward] = plane
        try:
            await asyncio.gather(self._pump(plane, reader, backward), self._pump(plane, onward, writer))
        finally:
            for end in (writer, backward):
                del self._writers[end]
                end.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, plane: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._may_pass[plane].wait()
                self.passed_bytes[plane] += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            writer.transport.abort()
