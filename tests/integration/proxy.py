"""A TCP proxy in this process, between nodes: cuts and stalls connections that the nodes believe to be direct.

A node listens on one loopback address and advertises another, where the proxy listens on the same four ports.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType
from typing import Any, Self

import zmesh

HIDDEN, SHOWN = "127.0.0.2", "127.0.0.3"
CHUNK_BYTES = 64 * 1024
INTRODUCTION, CONTROL, DATA, PUBLISH = range(4)


class Proxy:
    """In front of one node, which was started with ``Proxy.settings``."""

    settings: dict[str, Any] = {"listen": f"tcp://{HIDDEN}:0", "advertise": (SHOWN,)}  # noqa: RUF012  # never changed

    def __init__(self, node: zmesh.AgentNetwork) -> None:
        self._base = int(node.info().addresses[0].rpartition(":")[2])
        self._servers: list[asyncio.Server] = []
        self._writers: dict[asyncio.StreamWriter, int] = {}  # by the plane they belong to
        self._tasks: set[asyncio.Task[None]] = set()
        self.passed_bytes = [0, 0, 0, 0]
        self.accepted = [0, 0, 0, 0]

    async def __aenter__(self) -> Self:
        for plane in range(4):

            async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plane: int = plane) -> None:
                await self._serve(plane, reader, writer)

            self._servers.append(await asyncio.start_server(accepted, SHOWN, self._base + plane))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for plane in range(4):
            self.reset(plane)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    def reset(self, plane: int) -> int:
        """Reset every connection of a plane, in the midst of whatever it carries; how many there were."""
        writers = [writer for writer, its_plane in self._writers.items() if its_plane == plane]
        for writer in writers:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return len(writers) // 2

    async def _serve(self, plane: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted[plane] += 1
        try:
            onward, backward = await asyncio.open_connection(HIDDEN, self._base + plane)
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
                self.passed_bytes[plane] += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            writer.transport.abort()
