"""``zmesh`` as a process, against running nodes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.programs import ROOT, Program, command, environment, free_port, run, start_node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Program]:
    """A running node of the home ``tmp_path``."""
    with start_node(tmp_path, "--name", "desk") as started:
        started.event("banner")
        yield started


def objects(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_init_makes_a_mesh_once(tmp_path: Path) -> None:
    first, second = (run("zmesh", "init", "--mesh", "lab", home=tmp_path) for _ in range(2))
    assert (first.returncode, first.stderr) == (0, b"")
    assert b"founded the mesh 'lab'" in first.stdout
    assert (second.returncode, second.stdout) == (2, b"")
    assert second.stderr.startswith(b"zmesh: the mesh 'lab' exists already")
    assert second.stderr.count(b"\n") == 1
    (mesh_id,) = re.findall(rb"\(id ([0-9a-f]{32})\)", first.stdout)
    assert b"(id " + mesh_id + b", founded on this machine)" in second.stderr
    with start_node(tmp_path, "--mesh", "lab") as started:
        assert started.event("banner")["mesh"] == "lab"


def test_init_as_json(tmp_path: Path) -> None:
    (founded,) = objects(run("zmesh", "init", "--json", home=tmp_path).stdout)
    assert (founded["event"], founded["mesh"]) == ("founded", "default")
    assert re.fullmatch("[0-9a-f]{32}", founded["mesh_id"])
    assert Path(founded["directory"]).is_dir()


def test_init_on_a_machine_that_joined_says_that_it_did(node: Program, tmp_path: Path) -> None:
    joined = tmp_path / "joined"
    joined.mkdir()
    with start_node(joined, "--join", node.event("banner")["join"]) as other:
        other.event("banner")
    ended = run("zmesh", "init", home=joined)
    assert ended.returncode == 2
    assert b"founded on another machine" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("listen --count 0", b"'0' is not a whole number above 0"),
        ("listen --count -3", b"'-3' is not a whole number above 0"),
        ("listen --count 1.5", b"'1.5' is not a whole number above 0"),
        ("listen --count 99999999999999999999999", b"is not a whole number above 0"),
        ("listen --id 18446744073709551616", b"ids go from 0 to 2**64 - 1"),
        ("listen --id echo", b"'echo' is not a whole number from 0 to 2**64 - 1"),
        ("send 18446744073709551616 hi", b"ids go from 0 to 2**64 - 1"),
        ("send  hi", b"must not be empty"),
        ("invite --valid 0", b"'0' is not a positive number of seconds"),
        ("invite --valid nan", b"'nan' is not a positive number of seconds"),
        ("invite --valid 9999999 --address tcp://desk:7650", b"30 days at most"),
        ("invite --valid 0.0001 --address tcp://desk:7650", b"valid for some time"),
        ("invite --address foo", b"write tcp://foo:7650"),
        ("invite --address tcp://*:7650", b"but not dialled"),
        ("members --timeout -1", b"must be a positive number of seconds"),
        ("members --bootstrap tcp://desk:70000", b"the port must be at most 65532"),
    ],
)
def test_nonsense_is_refused_before_anything_is_tried(arguments: str, told: bytes, tmp_path: Path) -> None:
    run("zmesh", "init", home=tmp_path)
    ended = run("zmesh", *arguments.split(" "), home=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert told in ended.stderr
    assert ended.stderr.count(b"\n") == 1


def test_invite_makes_a_join_string_that_works(node: Program, tmp_path: Path) -> None:
    invited = run("zmesh", "invite", "--valid", "60", home=tmp_path)
    assert (invited.returncode, invited.stdout.count(b"\n")) == (0, 1)
    other = tmp_path / "other"
    other.mkdir()
    with start_node(other, "--name", "other", "--join", invited.stdout.decode().strip()) as joiner:
        assert joiner.event("node_joined")["node"]["node_id"] == "desk"


def test_invite_needs_a_node_to_ask_or_its_address(tmp_path: Path) -> None:
    run("zmesh", "init", home=tmp_path)
    assert run("zmesh", "invite", home=tmp_path).returncode == 2
    (given,) = objects(run("zmesh", "invite", "--address", "tcp://10.0.0.5:7650", "--json", home=tmp_path).stdout)
    assert (given["event"], given["addresses"], given["valid_s"]) == ("invitation", ["tcp://10.0.0.5:7650"], 3600)


def test_members_and_agents_are_listed(node: Program, tmp_path: Path) -> None:
    with start_node(tmp_path, "--name", "second") as second:
        second.event("node_joined")
        members = objects(run("zmesh", "members", "--json", home=tmp_path).stdout)
        assert {member["node_id"]: member["status"] for member in members} == {"desk": "active", "second": "active"}
        agents = objects(run("zmesh", "agents", "--json", home=tmp_path).stdout)
        assert {agent["node_id"] for agent in agents} == {"desk", "second"}
        text = run("zmesh", "members", home=tmp_path).stdout.decode()
        assert [line.split()[0] for line in text.splitlines()] == ["desk", "second"]


def test_agents_can_be_asked_for_by_capability(node: Program, tmp_path: Path) -> None:
    (echo,) = objects(run("zmesh", "agents", "--capability", "echo", "--json", home=tmp_path).stdout)
    assert (echo["event"], echo["capabilities"], echo["node_id"]) == ("agent", ["echo"], "desk")
    assert run("zmesh", "agents", "--capability", "fly", "--json", home=tmp_path).stdout == b""


def test_a_sent_message_is_delivered(node: Program, tmp_path: Path) -> None:
    agent_id = node.event("banner")["agents"][0]["agent_id"]
    sent = run("zmesh", "send", str(agent_id), "-", home=tmp_path, stdin=b"\xff from a pipe")
    assert (sent.returncode, sent.stderr) == (0, b"")
    assert node.event("message")["encoding"] == "base64"
    (result,) = objects(run("zmesh", "send", "echo", "hi", "--json", home=tmp_path).stdout)
    assert result["event"] == "sent"
    assert node.event("message", payload="hi")["from_node"].startswith("desk/")


def test_an_answer_is_printed_byte_for_byte(node: Program, tmp_path: Path) -> None:
    payload = bytes(range(256)) * 1000
    answered = run("zmesh", "request", "echo", "-", home=tmp_path, stdin=payload)
    assert (answered.returncode, answered.stdout, answered.stderr) == (0, payload, b"")
    (result,) = objects(run("zmesh", "request", "echo", "hi", "--json", home=tmp_path).stdout)
    assert (result["event"], result["payload"], result["from_node"]) == ("answer", "hi", "desk")


def test_listen_prints_what_is_said(node: Program, tmp_path: Path) -> None:
    arguments = command("zmesh", "listen", "--group", "lab", "--id", "77", "--count", "3", "--json")
    with Program(arguments, home=tmp_path) as listener:
        listener.event("listening", agent_id=77, groups=["lab"])
        node.expect(lambda e: e["event"] == "agent_added" and e["agent"]["agent_id"] == 77)
        node.type("say #lab to the group")
        node.type("say to everybody")
        node.type("send 77 to you")
        assert listener.wait() == (0, "")
        heard = {event["payload"]: event["group"] for event in listener.events if event["event"] == "message"}
        assert heard == {"to the group": "lab", "to everybody": None, "to you": None}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_listening_ends_well_when_interrupted(node: Program, tmp_path: Path, signum: signal.Signals) -> None:
    with Program(command("zmesh", "listen", "--json"), home=tmp_path) as listener:
        listener.event("listening")
        listener.signal(signum)
        assert listener.wait() == (0, "")
    # A client is no member that anybody counted on: it has left, and nothing of it remains.
    members = objects(run("zmesh", "members", "--json", home=tmp_path).stdout)
    assert [member["node_id"] for member in members if member["status"] == "active"] == ["desk"]


def test_nobody_there_is_code_4(tmp_path: Path) -> None:
    run("zmesh", "init", home=tmp_path)
    ended = run("zmesh", "members", "--timeout", "0.5", home=tmp_path)
    assert (ended.returncode, ended.stdout) == (4, b"")
    assert b"no node of the mesh 'default' answered within 0.5 s" in ended.stderr
    assert ended.stderr.count(b"\n") == 1


def test_a_client_whose_clock_is_wrong_is_told_so(node: Program, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nreal = time.time_ns\ntime.time_ns = lambda: real() + 2 * 86_400 * 10**9\n", encoding="utf-8"
    )
    search = f"{tmp_path}{os.pathsep}{ROOT}"
    ended = subprocess.run(
        command("zmesh", "members", "--timeout", "3"),
        env=environment(tmp_path, {"PYTHONPATH": search}),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (3, b"")
    assert b"set the clock of whichever machine is wrong" in ended.stderr
    assert ended.stderr.count(b"\n") == 1


def test_an_unreachable_bootstrap_address_is_nobody_too(tmp_path: Path) -> None:
    run("zmesh", "init", home=tmp_path)
    address = f"tcp://127.0.0.1:{free_port()}"
    assert run("zmesh", "agents", "--bootstrap", address, "--timeout", "0.5", home=tmp_path).returncode == 4


@pytest.mark.parametrize(
    ("closed", "arguments", "code"),
    [
        ("<&-", "request echo -", 0),  # an empty payload
        (">&-", "members", 0),
        ("2>&-", "members --mesh none", 2),
        ("<&- >&- 2>&-", "request echo hi", 0),
        (">/dev/full", "members", 1),
        (">/dev/full", "request echo hi", 1),
    ],
)
def test_streams_that_are_closed_or_full_crash_nothing(
    node: Program, tmp_path: Path, closed: str, arguments: str, code: int
) -> None:
    line = f"exec {' '.join(command('zmesh', *arguments.split()))} {closed}"
    ended = subprocess.run(
        ["bash", "-c", line], env=environment(tmp_path), capture_output=True, check=False, timeout=60
    )
    told = b"zmesh: cannot write to standard output: No space left on device\n" if "full" in closed else b""
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, b"", told)


def test_a_character_that_the_output_cannot_take_is_escaped(node: Program, tmp_path: Path) -> None:
    with Program(
        command("zmesh", "listen", "--id", "5", "--count", "1"), home=tmp_path, more={"PYTHONIOENCODING": "ascii"}
    ) as listener:
        listener.line("listening as agent 5")
        node.expect(lambda e: e["event"] == "agent_added" and e["agent"]["agent_id"] == 5)
        node.type("send 5 gr\xfcn")
        assert listener.line("gr\\xfcn")
        assert listener.wait() == (0, "")


def test_an_interrupt_while_the_payload_is_typed_ends_it(tmp_path: Path) -> None:
    run("zmesh", "init", home=tmp_path)
    with Program(command("zmesh", "request", "echo", "-"), home=tmp_path) as typing:
        typing.wait_until_it_reads()  # while Python starts, an interrupt ends it with another code
        assert typing.interrupt_until_it_ends() == 130


@pytest.mark.parametrize("to", ["4", "fly"])
def test_an_unknown_agent_is_code_4(node: Program, tmp_path: Path, to: str) -> None:
    ended = run("zmesh", "send", to, "hi", "--timeout", "3", home=tmp_path)
    assert (ended.returncode, ended.stdout) == (4, b"")
    assert b"'zmesh agents' lists them" in ended.stderr


def test_without_a_mesh_it_says_how_to_get_one(tmp_path: Path) -> None:
    ended = run("zmesh", "members", home=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"zmesh init" in ended.stderr
