"""Many nodes at once, and nodes that stop: what they do in haste accuses nobody."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.runtime.control_mesh import Mesh, Node, has_judged_all, wait_for
from zmesh.runtime import control_listeners

ROOT = Path(__file__).parents[2]
CROWD = 34  # more than are near: the mesh grows through both kinds of view
KILLED = 3
PATIENCE_S = 90.0  # for what takes some seconds: all of them share this process


def stop_all(nodes: list[Node]) -> None:
    """At once: else those that are still there look for those that went."""
    for node in nodes:
        node.plane._call(lambda loop: loop.stop(goodbye=False))


def test_a_crowd_joins_and_some_are_killed_and_nobody_is_accused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_listeners, "QUIET_S", 0.5)  # so soon is told of those who hung up
    mesh = Mesh(tmp_path, "lab")
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(mesh.identity(f"n{number}"))) for number in range(CROWD)]
        stack.callback(stop_all, nodes)
        for node in nodes[1:]:
            node.dial(nodes[0])
        for node in nodes:
            others = [other for other in nodes if other is not node]
            wait_for(lambda n=node, o=others: n.sees(*o), "all see all", PATIENCE_S)  # type: ignore[misc]
        killed, rest = nodes[-KILLED:], nodes[:-KILLED]
        stop_all(killed)
        for node in rest:
            for other in killed:
                wait_for(lambda n=node, o=other: n.kinds(o.name)[-1] == "died", "it is dead", PATIENCE_S)  # type: ignore[misc]
        for node in rest:
            wait_for(lambda n=node: has_judged_all(n), "nobody is taken for a stranger", PATIENCE_S)  # type: ignore[misc]
        assert [(node.name, incident) for node in nodes for incident in node.incidents()] == []


def test_a_stopped_process_is_knocked_and_accuses_nobody_of_it(tmp_path: Path) -> None:
    """When it goes on, it finds connections that were closed long ago, some before anything was said on them."""
    with Node(Mesh(tmp_path, "lab").identity("a")) as a:
        command = [sys.executable, "-m", "tests.runtime.reporting_child", str(tmp_path), "lab", "b", str(a.port)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            try:
                wait_for(lambda: a.kinds("b") == ["joined"], "b has joined", PATIENCE_S)
                child.send_signal(signal.SIGSTOP)
                wait_for(lambda: a.kinds("b")[-1] == "died", "b was asked, knocked, and given up", PATIENCE_S)
                child.send_signal(signal.SIGCONT)
                wait_for(lambda: a.kinds("b")[-1] == "recovered", "b is back", PATIENCE_S)
                reported, _ = child.communicate()
            finally:
                child.kill()
        assert reported.decode() == ""
        wait_for(lambda: has_judged_all(a), "a takes nobody for a stranger", PATIENCE_S)
        assert a.incidents() == []
