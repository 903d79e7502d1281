"""A node as a process of its own: agent 9 writes down every number it is sent, safely on the disk, before it goes on.

Arguments: the home directory, the node's name, the address of a node to join by, the file to write to.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import zmesh
from tests.integration.meshes import config


async def _main(home: str, node_id: str, address: str, file: str) -> None:
    written = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write_down(message: zmesh.AgentMessage) -> None:
        os.write(written, message.payload[:8])
        os.fsync(written)

    async with zmesh.AgentNetwork(config(Path(home), node_id, bootstrap=(address,))) as network:
        await network.register_agent(9, handler=write_down)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    zmesh.run(_main(*sys.argv[1:]))
