"""``Registry.watch``: a snapshot and then every change once, however the watcher reads and whenever it begins."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from zmesh.core.membership.member import AgentRecord, MemberEvent, MemberEventKind, NodeRecord

from zmesh.errors import NetworkError
from zmesh.events import EventStream
from zmesh.listing import RegistryEvent, RegistryView
from zmesh.listing import RegistryEventKind as Kind
from zmesh.registry import Registry
from zmesh.testing.subjects.membership import make_record

NAMES = ("a", "b", "c")  # a is this node
TURNS = 4  # of the loop, within which a task that has what it waited for goes on
PATIENCE_S = 30.0

agent_records = st.lists(
    st.builds(
        AgentRecord,
        agent_id=st.integers(0, 3),
        capabilities=st.sampled_from([(), ("echo",), ("echo", "sum")]),
        metadata=st.sampled_from([{}, {"model": "x"}]),
        healthy=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda agent: agent.agent_id,
).map(tuple)
records = st.builds(
    lambda name, agents, maintenance, port: replace(
        make_record(name, 1, "h"), agents=agents, maintenance=maintenance, data_port=port
    ),
    st.sampled_from(NAMES),
    agent_records,
    st.booleans(),
    st.integers(7001, 7002),
)
changes = st.one_of(
    st.tuples(st.just("apply"), records, st.sampled_from(MemberEventKind), st.sampled_from(["", "h1", "h2"])),
    st.tuples(st.just("forget_agents"), st.sampled_from(NAMES[1:])),
    st.tuples(st.just("forget"), st.sampled_from(NAMES[1:])),
)
scripts = st.lists(st.one_of(changes, st.tuples(st.just("watch")), st.tuples(st.just("read"), st.integers(1, 9))))


def change(registry: Registry, step: tuple[Any, ...]) -> None:
    """Do to the registry what the coordinator would."""
    match step:
        case ("apply", NodeRecord(node_id="a") as record, _, _):
            registry.update_self(record)
        case ("apply", record, kind, host):
            registry.apply(MemberEvent(kind, record), host, "print")
        case (name, node_id):
            getattr(registry, name)(node_id)


def new_registry() -> Registry:
    registry = Registry(lambda node_id: None, lambda: 0)
    registry.add_self(make_record("a", 1, "h"), "h", "print")
    return registry


def moved(name: str) -> list[tuple[Any, ...]]:
    """A node whose port changes, and nothing about its agents: found by chance once, and rarely."""
    record = replace(make_record(name, 1, "h"), agents=(AgentRecord(7),))
    kinds = ((MemberEventKind.JOINED, 7001), (MemberEventKind.RESTARTED, 7002))
    return [("watch",), *(("apply", replace(record, data_port=port), kind, "h1") for kind, port in kinds), ("read", 9)]


def listed(of: Registry | RegistryView) -> tuple[list[Any], list[Any]]:
    """Nodes and agents, but for when they were last heard."""
    nodes = [msgspec.structs.replace(node, last_heartbeat=0) for node in of.nodes()]
    return nodes, [msgspec.structs.replace(agent, last_heartbeat=0) for agent in of.agents()]


class Reader:
    """A watcher that reads when it is told to, and folds what it reads."""

    def __init__(self, registry: Registry) -> None:
        self.view = RegistryView()
        self._registry = registry
        self._watch = registry.watch()
        self._reading: asyncio.Task[RegistryEvent] | None = None

    async def read(self, most: int) -> None:
        """The next events, as far as they are there; who has read all of them knows what is listed."""
        for _ in range(most):
            self._reading = self._reading or asyncio.create_task(anext(self._watch))  # type: ignore[arg-type]
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if not self._reading.done():
                assert listed(self.view) == listed(self._registry)
                return
            reading, self._reading = self._reading, None
            self.view.apply(reading.result())

    async def read_to_the_end(self) -> None:
        with suppress(StopAsyncIteration):
            while True:
                self.view.apply(await (self._reading or anext(self._watch)))
                self._reading = None


async def play(steps: list[tuple[Any, ...]]) -> None:
    """Watchers begin in the middle of changes; at the end each has been told of everything."""
    registry, readers = new_registry(), []
    for step in steps:
        match step:
            case ("watch",):
                readers.append(Reader(registry))
                await readers[-1].read(1)
            case ("read", most):
                for reader in readers:
                    await reader.read(most)
            case _:
                change(registry, step)
    registry.close()
    for reader in readers:
        await reader.read_to_the_end()
        assert listed(reader.view) == listed(registry)


@settings(max_examples=500, deadline=None)
@given(scripts)
@example(moved("a"))
@example(moved("b"))
def test_the_fold_of_the_events_is_what_the_registry_lists(steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(steps))


@pytest.mark.parametrize("kind", [Kind.NODE_FORGOTTEN, Kind.AGENT_CHANGED, Kind.NODE_CHANGED])
def test_the_fold_notices_an_event_that_is_not_told(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the property would hold of any registry."""
    emit = EventStream.emit
    monkeypatch.setattr(
        EventStream, "emit", lambda stream, event: emit(stream, event) if event.kind is not kind else None
    )
    well, unwell = replace(make_record("b", 1, "h"), agents=(AgentRecord(7),)), AgentRecord(7, healthy=False)
    steps: list[tuple[Any, ...]] = [
        ("watch",),
        ("apply", well, MemberEventKind.JOINED, "h1"),
        ("apply", replace(well, agents=(unwell,)), MemberEventKind.RECOVERED, "h1"),
        ("apply", replace(make_record("a", 1, "h"), maintenance=True), MemberEventKind.CHANGED, ""),
        ("forget", "b"),
    ][: 3 if kind is Kind.AGENT_CHANGED else None]
    with pytest.raises(AssertionError):
        asyncio.run(play(steps))


def test_the_snapshot_is_of_when_the_iteration_begins() -> None:
    """A watch that is asked for early and read late misses nothing between."""

    async def main() -> None:
        registry = new_registry()
        watch = registry.watch()
        registry.update_self(replace(make_record("a", 1, "h"), agents=(AgentRecord(7),)))
        registry.close()
        events = [event async for event in watch]
        assert [event.kind for event in events] == [Kind.NODE_JOINED, Kind.AGENT_ADDED]

    asyncio.run(main())


def test_one_that_is_too_slow_gets_what_it_had_room_for_and_then_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it reads on and there is room again: what was missed is a gap for ever. Nobody else notices."""
    monkeypatch.setattr("zmesh.events.WATCHER_QUEUE_EVENTS", 5)

    async def main() -> None:
        registry = new_registry()
        slow, fast = registry.watch(), Reader(registry)
        await anext(slow)
        await fast.read(2)
        for number in range(7):
            registry.update_self(replace(make_record("a", 1, "h"), agents=(AgentRecord(number),)))
            await fast.read(9)
        told = [await anext(slow) for _ in range(3)]
        registry.update_self(make_record("a", 1, "h"))
        await fast.read(9)
        told += [await anext(slow) for _ in range(3)]
        with pytest.raises(NetworkError, match="5 events behind"):
            await anext(slow)
        assert [event.agent.agent_id for event in told if event.agent] == [0, 0, 1, 1, 2, 2]
        registry.close()
        await fast.read_to_the_end()

    asyncio.run(main())


def test_many_changes_wait_for_a_slow_reader() -> None:
    async def main() -> None:
        registry = new_registry()
        reader = Reader(registry)
        await reader.read(1)
        for number in range(20_000):
            registry.update_self(replace(make_record("a", 1, "h"), agents=(AgentRecord(number),)))
        registry.close()
        await reader.read_to_the_end()
        assert listed(reader.view) == listed(registry)
        assert [agent.agent_id for agent in reader.view.agents()] == [19_999]

    asyncio.run(main())


def test_a_watch_of_a_registry_that_has_ended_ends() -> None:
    async def main() -> None:
        registry = new_registry()
        registry.close()
        async with asyncio.timeout(PATIENCE_S):
            assert [event.kind async for event in registry.watch()] == [Kind.NODE_JOINED]

    asyncio.run(main())
