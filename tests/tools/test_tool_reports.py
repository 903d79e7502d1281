"""Lines for people and fields for programs."""

from __future__ import annotations

import json

import pytest

from zmesh import (
    AgentMessage,
    AgentNode,
    Incident,
    MessageType,
    NetworkInfo,
    NodeInfo,
    NodeStatus,
    RegistryEvent,
    RegistryEventKind,
)
from zmesh.tools.banner import banner
from zmesh.tools.reports import (
    SHOWN_CHARACTERS,
    agent_row,
    clean,
    incident_report,
    message_report,
    node_row,
    payload_fields,
    payload_text,
    registry_report,
    table,
)


def node(*, address: str = "10.0.0.6", is_self: bool = False) -> NodeInfo:
    return NodeInfo(
        node_id="lab2",
        status=NodeStatus.ACTIVE,
        address=address,
        port=7650,
        incarnation=1,
        last_heartbeat=2,
        agents=(7, 9),
        is_self=is_self,
    )


def event(kind: RegistryEventKind, *, agent: AgentNode | None = None, reason: str = "") -> RegistryEvent:
    return RegistryEvent(kind=kind, node=node(), agent=agent, reason=reason)


AGENT = AgentNode(node_id="lab2", agent_id=9, capabilities=["echo", "sum"])


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (RegistryEventKind.NODE_JOINED, "+ node lab2 joined, at tcp://10.0.0.6:7650"),
        (RegistryEventKind.NODE_SUSPECTED, "? node lab2 is silent"),
        (RegistryEventKind.NODE_RECOVERED, "+ node lab2 is back"),
        (RegistryEventKind.NODE_DIED, "- node lab2 is dead"),
        (RegistryEventKind.NODE_LEFT, "- node lab2 left"),
        (RegistryEventKind.NODE_RESTARTED, "+ node lab2 restarted, at tcp://10.0.0.6:7650"),
    ],
)
def test_a_nodes_change_is_one_line(kind: RegistryEventKind, line: str) -> None:
    report = registry_report(event(kind))
    assert report is not None
    assert list(report.lines) == [line]
    assert report.event == kind.name.lower()


def test_a_changed_record_is_for_programs_alone() -> None:
    report = registry_report(event(RegistryEventKind.NODE_CHANGED))
    assert report is not None
    assert (report.event, list(report.lines)) == ("node_changed", [])


def test_every_kind_of_registry_event_has_its_report() -> None:
    agent_kinds = {kind for kind in RegistryEventKind if kind.name.startswith("AGENT_")}
    for_programs = {RegistryEventKind.NODE_CHANGED, RegistryEventKind.NODE_FORGOTTEN}
    for kind in RegistryEventKind:
        report = registry_report(event(kind, agent=AGENT if kind in agent_kinds else None))
        assert report is not None
        assert bool(report.lines) == (kind not in for_programs)
        json.dumps(report.fields)


def test_an_agents_change_names_what_it_can_do() -> None:
    added = registry_report(event(RegistryEventKind.AGENT_ADDED, agent=AGENT))
    removed = registry_report(event(RegistryEventKind.AGENT_REMOVED, agent=AGENT, reason="silent for 3 s"))
    assert added is not None
    assert removed is not None
    assert list(added.lines) == ["+ agent 9 (echo, sum) on lab2 is there"]
    assert list(removed.lines) == ["- agent 9 (echo, sum) on lab2 is gone: silent for 3 s"]
    assert removed.fields["reason"] == "silent for 3 s"


@pytest.mark.parametrize(
    ("kind", "healthy", "line"),
    [
        (RegistryEventKind.AGENT_CHANGED, False, "? agent 9 (echo) on lab2 is not well"),
        (RegistryEventKind.AGENT_CHANGED, True, "+ agent 9 (echo) on lab2 is well"),
        (RegistryEventKind.AGENT_ADDED, False, "? agent 9 (echo) on lab2 is there, and not well"),
    ],
)
def test_an_agents_health_is_said(kind: RegistryEventKind, healthy: bool, line: str) -> None:
    agent = AgentNode(node_id="lab2", agent_id=9, capabilities=["echo"], healthy=healthy)
    report = registry_report(event(kind, agent=agent))
    assert report is not None
    assert list(report.lines) == [line]


def test_the_nodes_own_events_are_left_to_its_banner() -> None:
    own = RegistryEvent(kind=RegistryEventKind.NODE_JOINED, node=node(is_self=True), agent=None, reason="")
    assert registry_report(own) is None


def test_an_ipv6_address_is_bracketed() -> None:
    assert node_row(node(address="fd00::2"))[2] == "tcp://[fd00::2]:7650"


def test_rows_say_who_and_where() -> None:
    assert node_row(node()) == ["lab2", "active", "tcp://10.0.0.6:7650", "7, 9"]
    assert node_row(node(is_self=True))[2] == "this node"
    assert agent_row(AGENT) == ["9", "echo, sum", "lab2", "active"]
    assert agent_row(AgentNode(node_id="a", agent_id=1)) == ["1", "-", "a", "active"]


def test_a_table_aligns_its_columns() -> None:
    assert table([["a", "b", ""], ["long", "c", "d"]]) == ["a     b", "long  c  d"]
    assert table([]) == []


@pytest.mark.parametrize(
    ("message", "start"),
    [
        (AgentMessage(from_agent=1, to_agent=2, payload=b"hi"), "message from agent 1 on this node: hi"),
        (AgentMessage(from_agent=1, to_agent=2, message_type=MessageType.QUERY), "request from agent 1 on this node: "),
        (AgentMessage(from_agent=1, payload=b"hi", message_type=MessageType.BROADCAST), "broadcast from agent 1 on"),
    ],
)
def test_a_message_says_what_it_is(message: AgentMessage, start: str) -> None:
    report = message_report(message)
    assert report.lines[0].startswith(start)
    assert json.loads(json.dumps(report.fields))["from_agent"] == 1


def test_a_payload_cannot_move_the_cursor() -> None:
    hostile = "ok\x1b[2J\r\nzmesh> \u202efake"
    assert clean(hostile) == r"ok\x1b[2J\r\nzmesh> \u202efake"
    assert payload_text(hostile.encode()) == clean(hostile)
    assert payload_text(b"\xff\x00") == r"\xff\x00"


def test_a_long_payload_is_cut_and_says_so() -> None:
    assert payload_text(b"x" * 100_000) == "x" * SHOWN_CHARACTERS + "... (100,000 bytes)"
    assert payload_text(b"x" * SHOWN_CHARACTERS) == "x" * SHOWN_CHARACTERS


def test_a_payload_in_json_is_text_or_base64() -> None:
    assert payload_fields("grüße".encode()) == {"payload": "grüße", "encoding": "utf-8"}
    assert payload_fields(b"\xff\x00") == {"payload": "/wA=", "encoding": "base64"}


def test_an_incident_is_one_line() -> None:
    incident = Incident(kind="refused_certificate", reason="of another mesh", source="10.0.0.9", count=1)
    assert list(incident_report(incident).lines) == ["! refused certificate from 10.0.0.9: of another mesh"]


INFO = NetworkInfo(
    node_id="desk",
    mesh="lab",
    mesh_id="0a1b",
    fingerprint="3F2A-91BC",
    incarnation=1,
    addresses=("tcp://10.0.0.5:7650", "tcp://[fd00::5]:7650"),
    discovery={"mdns": "announcing", "bootstrap": "no addresses"},
    has_authority=True,
    is_client=False,
)


def test_the_banner_gives_the_command_for_the_next_machine() -> None:
    lines = [line.strip() for line in banner(INFO, [], "zmesh1.abc").lines]
    assert "node          desk  (key 3F2A-91BC)" in lines
    assert "mesh          lab  (id 0a1b, founded on this machine)" in lines
    assert "tcp://[fd00::5]:7650" in lines
    assert "discovery     mdns: announcing" in lines
    assert "next machine  zmesh-node --join zmesh1.abc" in lines


def test_without_authority_the_banner_says_where_to_get_an_invitation() -> None:
    report = banner(INFO, [], None)
    assert "'zmesh invite' on the machine that founded this mesh" in report.lines[-1]
    assert report.fields["join"] is None
