"""A node in a process of its own, till stdin ends; then it prints its incidents. Arguments: HOME MESH NAME PORT."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.runtime.control_mesh import Node, has_judged_all, wait_for
from zmesh.model import now_ms
from zmesh.security import Keystore


def main(home: str, mesh: str, name: str, port: str) -> None:
    claim = Keystore(Path(home), mesh).claim(name, client=False, now_ms=now_ms())
    with Node(claim.identity) as node:
        node.plane.dial([("127.0.0.1", int(port))], True)
        sys.stdin.read()
        wait_for(lambda: has_judged_all(node), "nobody is under suspicion as a stranger")
        for incident in node.incidents():
            print(incident.kind, incident.source, incident.reason)
    claim.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
