"""A node in a process of its own, till stdin ends. Arguments: HOME MESH NAME PORT MACHINE."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.runtime.control_mesh import Node
from zmesh.model import now_ms
from zmesh.runtime import control_choice
from zmesh.security import Keystore


def main(home: str, mesh: str, name: str, port: str, machine: str) -> None:
    control_choice.RUNS_OVERLAY = machine == "membership"
    claim = Keystore(Path(home), mesh).claim(name, client=False, now_ms=now_ms())
    with Node(claim.identity) as node:
        node.plane.dial([("127.0.0.1", int(port))], True)
        sys.stdin.read()
    claim.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
