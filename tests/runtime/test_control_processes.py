"""Nodes in processes of their own, killed and stopped by the kernel."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.runtime.control_mesh import Mesh, Node, wait_for

ROOT = Path(__file__).parents[2]


@contextmanager
def child_of(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.runtime.control_child", str(home), "lab", "b", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def test_a_process_that_is_killed_is_dead_and_known_when_it_restarts(tmp_path: Path) -> None:
    with Node(Mesh(tmp_path, "lab").identity("a")) as a:
        with child_of(tmp_path, a.port) as child:
            wait_for(lambda: a.kinds("b") == ["joined"], "b has joined")
            first = a.last("b").event.record.incarnation
            child.send_signal(signal.SIGKILL)
            wait_for(lambda: "died" in a.kinds("b"), "b is dead")
        with child_of(tmp_path, a.port):
            wait_for(lambda: a.kinds("b")[-1] == "joined", "b is back")
            assert a.last("b").event.record.incarnation > first
        assert a.incidents() == []


def test_a_process_that_was_stopped_comes_back_as_itself_and_doubts_nobody(tmp_path: Path) -> None:
    with Node(Mesh(tmp_path, "lab").identity("a")) as a, child_of(tmp_path, a.port) as child:
        wait_for(lambda: a.kinds("b") == ["joined"], "b has joined")
        child.send_signal(signal.SIGSTOP)
        wait_for(lambda: a.kinds("b") == ["joined", "suspected", "died"], "b is given up")
        child.send_signal(signal.SIGCONT)
        wait_for(lambda: a.kinds("b")[-1] == "recovered", "b is recognised", timeout_s=2.0)
        heard = a.plane.last_heard_ms("b") or 0
        wait_for(lambda: (a.plane.last_heard_ms("b") or 0) > heard + 1500, "b goes on")
        assert a.kinds("b") == ["joined", "suspected", "died", "recovered"]
        assert a.incidents() == []
