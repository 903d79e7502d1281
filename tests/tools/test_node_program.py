"""``zmesh-node`` as a process: founding, enrolling, talking, refusing, ending."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.programs import PATIENCE_S, Program, command, environment, free_port, run, start_node
from zmesh.joining import ENROL_TIMEOUT_S


@pytest.fixture
def alpha(tmp_path: Path) -> Iterator[Program]:
    """The node that founded the mesh."""
    home = tmp_path / "alpha"
    home.mkdir()
    with start_node(home, "--name", "alpha") as node:
        node.event("banner")
        yield node


@pytest.fixture
def beta(tmp_path: Path, alpha: Program) -> Iterator[Program]:
    """A node of another home that was invited; both know each other's agents."""
    home = tmp_path / "beta"
    home.mkdir()
    with start_node(home, "--name", "beta", "--join", alpha.event("banner")["join"]) as node:
        for here, there in ((alpha, node), (node, alpha)):
            agent_id = there.event("banner")["agents"][0]["agent_id"]
            here.expect(lambda e, wanted=agent_id: e["event"] == "agent_added" and e["agent"]["agent_id"] == wanted)
        yield node


def agent_id(node: Program) -> int:
    return int(node.event("banner")["agents"][0]["agent_id"])


def test_without_arguments_it_founds_a_mesh_and_says_how_to_join_it(alpha: Program) -> None:
    banner = alpha.event("banner")
    assert banner["node_id"] == "alpha"
    assert banner["mesh"] == "default"
    assert banner["fingerprint"]
    assert banner["addresses"][0].startswith("tcp://127.0.0.1:")
    assert banner["join"].startswith("zmesh1.")
    assert banner["agents"][0]["capabilities"] == ["echo"]
    assert set(banner["discovery"]) >= {"mdns", "bootstrap"}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_makes_it_leave(alpha: Program, beta: Program, signum: signal.Signals) -> None:
    beta.signal(signum)
    assert beta.wait() == (0, "")
    assert beta.events[-1]["event"] == "left"
    assert alpha.event("node_left")["node"]["node_id"] == "beta"


def test_point_to_point(alpha: Program, beta: Program) -> None:
    assert beta.type(f"send {agent_id(alpha)} hello there")["command"] == "send"
    message = alpha.event("message", payload="hello there")
    assert (message["from_agent"], message["from_node"]) == (agent_id(beta), "beta")
    assert (message["to_agent"], message["group"]) == (agent_id(alpha), None)


def test_request_by_id_and_by_capability(alpha: Program, beta: Program) -> None:
    answer = beta.type(f"request {agent_id(alpha)} grüße")
    assert (answer["payload"], answer["from_node"]) == ("grüße", "alpha")
    assert beta.type("request echo hi")["payload"] == "hi"


def test_group_and_broadcast(alpha: Program, beta: Program) -> None:
    assert alpha.type("join lab")["group"] == "lab"
    assert beta.type("say #lab to the group")["group"] == "lab"
    assert alpha.event("message", payload="to the group")["group"] == "lab"
    assert beta.type("say to everybody")["group"] is None
    heard = alpha.event("message", payload="to everybody")
    assert (heard["to_agent"], heard["group"]) == (None, None)
    alpha.type("leave lab")
    beta.type("say #lab not heard")
    beta.type(f"send {agent_id(alpha)} the end")
    alpha.event("message", payload="the end")
    assert not [e for e in alpha.events if e["event"] == "message" and e["payload"] == "not heard"]


def test_members_and_agents(alpha: Program, beta: Program) -> None:
    members = alpha.type("members")["nodes"]
    assert {node["node_id"]: node["status"] for node in members} == {"alpha": "active", "beta": "active"}
    assert {agent["agent_id"] for agent in beta.type("agents")["agents"]} == {agent_id(alpha), agent_id(beta)}


def test_maintenance(alpha: Program) -> None:
    drained = alpha.type("drain")
    assert (drained["drained"], drained["handlers"], drained["queued"]) == (True, 0, 0)
    assert [node["status"] for node in alpha.type("members")["nodes"]] == ["maintenance"]
    assert "no active agent has the capability 'echo'" in alpha.type("request echo hi")["text"]
    assert alpha.type("maintenance off")["on"] is False
    assert alpha.type("request echo hi")["payload"] == "hi"
    assert alpha.type("maintenance on")["on"] is True


def test_a_failed_command_ends_nothing(alpha: Program) -> None:
    assert alpha.type("send 4 hello")["error"] == "UnknownAgent"
    assert "did you mean 'members'" in alpha.type("membres")["text"]
    assert alpha.type("help")["command"] == "help"


def test_a_killed_node_is_noticed(alpha: Program, beta: Program) -> None:
    beta.signal(signal.SIGKILL)
    assert alpha.event("node_died")["node"]["node_id"] == "beta"


def test_an_enrolled_machine_needs_no_join_string_again(alpha: Program, beta: Program, tmp_path: Path) -> None:
    assert beta.type("quit")["command"] == "quit"
    assert beta.wait() == (0, "")
    with start_node(tmp_path / "beta", "--bootstrap", alpha.event("banner")["addresses"][0]) as again:
        assert again.event("node_joined")["node"]["node_id"] == "alpha"
        assert again.event("banner")["join"] is None


def test_a_join_string_is_good_once(alpha: Program, beta: Program, tmp_path: Path) -> None:
    home = tmp_path / "gamma"
    home.mkdir()
    used = run("zmesh-node", "--name", "gamma", "--join", alpha.event("banner")["join"], home=home)
    assert used.returncode == 3
    assert used.stdout.startswith(b"asking to be let into the mesh 'default'")
    assert used.stderr.count(b"\n") == 1
    assert b"used already by another machine: make a new one with `zmesh invite`" in used.stderr
    again = alpha.type("invite")["join"]
    with start_node(home, "--name", "gamma", "--join", again) as gamma:
        assert gamma.event("banner")["node_id"] == "gamma"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--join", "zmesh1.rubbish"], 3),
        (["--join", "rubbish"], 3),
        (["--name", "no spaces please"], 2),
        (["--listen", "http://x"], 2),
        (["--agent", "nowhere:x"], 2),
        (["--home", "/dev/null/keys"], 2),
        (["--config", "missing.toml"], 2),
        (["--lsten", "tcp://127.0.0.1:7000"], 2),
    ],
)
def test_a_wrong_start_is_one_sentence(arguments: list[str], code: int, tmp_path: Path) -> None:
    ended = run("zmesh-node", *arguments, home=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, b"")
    assert ended.stderr.startswith(b"zmesh-node: ")
    assert ended.stderr.count(b"\n") == 1


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        ended = run("zmesh-node", "--listen", f"tcp://127.0.0.1:{port}", home=tmp_path)
    assert ended.returncode == 2
    assert str(port).encode() in ended.stderr
    assert ended.stderr.count(b"\n") == 1


USERS_AGENTS = """
import asyncio, time

class Worker:
    agent_id = 9
    capabilities = ["shout", "fail"]
    async def start(self, agent):
        await agent.join_group("orders")
        self.agent = agent
    async def handle(self, message):
        if message.payload == b"fail":
            raise ValueError("no such thing")
        return message.payload.upper()
    async def stop(self):
        print('{"event": "stopped"}', flush=True)

class Stubborn(Worker):
    async def stop(self):
        await super().stop()
        await asyncio.Event().wait()

class Hog(Worker):
    async def handle(self, message):
        print('{"event": "hogging"}', flush=True)
        while True:
            time.sleep(1000)

class Plain:
    agent_id = 12
    def handle(self, message): ...
    def start(self, agent):
        print('{"event": "started", "agent": %d}' % agent.agent_id, flush=True)
    def stop(self):
        print('{"event": "stopped"}', flush=True)

class Broken(Worker):
    async def start(self, agent):
        raise RuntimeError("no database")
"""


def write_agents(home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "users_agents.py").write_text(USERS_AGENTS, encoding="utf-8")


def test_a_users_agent_is_started_answers_and_is_stopped(alpha: Program, tmp_path: Path) -> None:
    write_agents(tmp_path / "beta")
    join = alpha.event("banner")["join"]
    with start_node(tmp_path / "beta", "--name", "beta", "--join", join, "--agent", "users_agents:Worker") as beta:
        alpha.expect(lambda e: e["event"] == "agent_added" and e["agent"]["agent_id"] == 9)
        assert alpha.type("request shout quiet")["payload"] == "QUIET"
        failed = alpha.type("request 9 fail")
        assert failed["error"] == "HandlerFailed"
        assert "ValueError: no such thing" in failed["text"]
        assert alpha.type("request 9 again")["payload"] == "AGAIN"
        beta.type("quit")
        assert beta.wait()[0] == 0
        assert [e["event"] for e in beta.events[-2:]] == ["stopped", "left"]


def test_start_and_stop_may_be_plain_functions(tmp_path: Path) -> None:
    write_agents(tmp_path)
    with start_node(tmp_path, "--agent", "users_agents:Plain") as node:
        node.event("started", agent=12)
        node.event("banner")
        node.type("quit")
        assert node.wait() == (0, "")
        assert node.event("stopped")


def test_two_agents_of_one_id_are_one_sentence(tmp_path: Path) -> None:
    write_agents(tmp_path)
    listen = f"tcp://127.0.0.1:{free_port()}"
    twice = ("--agent", "users_agents:Plain", "--agent", "users_agents:Plain")
    ended = run("zmesh-node", *twice, "--listen", listen, home=tmp_path)
    assert ended.returncode == 2
    told = b"zmesh-node: --agent users_agents:Plain: agent 12 is registered on this node already\n"
    assert ended.stderr == told


def test_an_agent_that_cannot_start_is_one_sentence(tmp_path: Path) -> None:
    write_agents(tmp_path)
    listen = f"tcp://127.0.0.1:{free_port()}"
    ended = run("zmesh-node", "--agent", "users_agents:Broken", "--listen", listen, home=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == b"zmesh-node: --agent users_agents:Broken: start() raised RuntimeError: no database\n"


def test_a_second_interrupt_does_not_wait_for_an_agent_that_will_not_stop(tmp_path: Path) -> None:
    write_agents(tmp_path)
    with start_node(tmp_path, "--agent", "users_agents:Stubborn") as node:
        node.event("banner")
        node.signal(signal.SIGINT)
        node.event("stopped")
        node.signal(signal.SIGINT)
        assert node.wait()[0] == 130


def test_a_name_that_another_machine_has_is_one_sentence_and_the_machine_is_in(alpha: Program, tmp_path: Path) -> None:
    home = tmp_path / "gamma"
    home.mkdir()
    join = alpha.event("banner")["join"]
    ended = run("zmesh-node", "--name", "alpha", "--join", join, "--listen", f"127.0.0.1:{free_port()}", home=home)
    assert ended.returncode == 2
    assert b"let in as 'alpha-2': start it again with --name alpha-2, or without --name" in ended.stderr
    assert ended.stderr.count(b"\n") == 1
    with start_node(home) as gamma:
        assert gamma.event("banner")["node_id"] == "alpha-2"


def join_string_of_nobody(tmp_path: Path) -> tuple[str, str]:
    """A join string that names one address at which nobody listens, and that address."""
    authority = tmp_path / "authority"
    authority.mkdir()
    run("zmesh", "init", home=authority)
    nobody = f"tcp://127.0.0.1:{free_port()}"
    return run("zmesh", "invite", "--address", nobody, home=authority).stdout.decode().strip(), nobody


def test_who_asks_to_be_let_in_says_where_at_once_and_ends_at_an_interrupt(tmp_path: Path) -> None:
    join, nobody = join_string_of_nobody(tmp_path)
    with start_node(tmp_path, "--join", join) as node:
        assert node.event("enrolling", mesh="default")["addresses"] == [nobody]
        started = time.monotonic()
        node.signal(signal.SIGINT)
        assert node.wait() == (0, "")
        assert time.monotonic() - started < ENROL_TIMEOUT_S / 2
        assert [event["event"] for event in node.events] == ["enrolling", "left"]
    assert not (tmp_path / "default").exists()


def test_who_was_let_in_says_nothing_of_asking_again(alpha: Program, beta: Program, tmp_path: Path) -> None:
    assert beta.event("enrolling")["addresses"] == alpha.event("banner")["addresses"]
    beta.type("quit")
    beta.wait()
    with start_node(tmp_path / "beta", "--join", alpha.event("banner")["join"]) as again:
        again.event("banner")
        assert "enrolling" not in [event["event"] for event in again.events]


def test_a_second_interrupt_ends_a_node_whose_loop_is_hogged(tmp_path: Path) -> None:
    write_agents(tmp_path)
    with start_node(tmp_path, "--agent", "users_agents:Hog") as node:
        node.event("banner")
        with Program(command("zmesh", "send", "9", "x", "--json"), home=tmp_path):
            node.event("hogging")
            assert node.interrupt_until_it_ends() == 130


def test_a_node_whose_output_nobody_reads_leaves(tmp_path: Path) -> None:
    arguments = command("zmesh-node", "--listen", f"tcp://127.0.0.1:{free_port()}")
    with subprocess.Popen(
        arguments, env=environment(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as node:
        assert node.stdout is not None
        assert node.stderr is not None
        assert node.stdout.readline().strip().startswith(b"node")
        node.stdout.close()
        run("zmesh", "send", "echo", "make it write a line", home=tmp_path)  # may find it, or find it gone
        assert (node.wait(PATIENCE_S), node.stderr.read()) == (1, b"")


def test_without_a_terminal_standard_input_is_left_alone(tmp_path: Path) -> None:
    arguments = command("zmesh-node", "--listen", f"tcp://127.0.0.1:{free_port()}")
    script = f"{' '.join(arguments)} & node=$!; read line; echo got $line; kill $node; wait $node"
    ended = subprocess.run(
        ["bash", "-c", script], env=environment(tmp_path), input=b"quit\n", capture_output=True, check=False, timeout=60
    )
    assert b"got quit" in ended.stdout


def test_every_setting_may_come_from_a_file(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "node.toml").write_text(
        f'name = "filed"\nmesh = "lab"\nlisten = "tcp://127.0.0.1:{port}"\njson = true\n', encoding="utf-8"
    )
    with Program(command("zmesh-node", "--config", "node.toml"), home=tmp_path) as node:
        banner = node.event("banner")
        assert (banner["node_id"], banner["mesh"]) == ("filed", "lab")
        assert banner["addresses"] == [f"tcp://127.0.0.1:{port}"]


def test_the_second_node_of_a_machine_finds_the_first_by_itself(alpha: Program, tmp_path: Path) -> None:
    with start_node(tmp_path / "alpha") as second:
        assert second.event("node_joined")["node"]["node_id"] == "alpha"
        assert alpha.event("node_joined")["node"]["node_id"] == second.event("banner")["node_id"]


def test_the_demo_shows_the_main_job() -> None:
    from tests.tools.programs import ROOT

    ended = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "noticed after" in ended.stdout
