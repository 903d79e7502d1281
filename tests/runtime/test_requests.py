"""Deadlines of requests: none ends early, none is forgotten, whatever else is asked and answered meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.errors import PeerLost, RequestTimeout
from zmesh.model import AgentMessage
from zmesh.runtime.counters import Counters
from zmesh.runtime.local import LocalOutbox
from zmesh.runtime.outbox import Route
from zmesh.runtime.requests import Requests
from zmesh.wire.data import Kind, Run


class Plane:
    """What an outbox needs of a data plane, for requests alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self.loop = loop
        self.node_id, self.incarnation = "a", 1
        self.statistics = Counters()
        self.requests = Requests(loop, self.statistics, clock)


class Bench:
    """Two outboxes, a clock that the test moves, and the open requests as a list that is searched in full."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = 0.0
        self.plane: Any = Plane(loop, lambda: self.now)
        self.requests: Requests = self.plane.requests
        self.routes = [Route(LocalOutbox(self.plane), Kind.REQUEST, 9, 7, 2, 1, 0) for _ in range(2)]
        self.open: list[tuple[float, int, int, asyncio.Future[AgentMessage]]] = []
        self.ended: list[asyncio.Future[AgentMessage]] = []

    def ask(self, which: int, timeout_s: float) -> None:
        outbox = self.routes[which].outbox
        number, outbox.next_record = outbox.next_record, outbox.next_record + 1
        future = self.requests.expect(self.routes[which], number, timeout_s)
        self.open.append((self.now + timeout_s, which, number, future))

    def answer(self, index: int) -> None:
        if self.open:
            _, which, number, future = self.open.pop(index % len(self.open))
            run = Run(Kind.REPLY, 7, 9, 3, 1, 0, [b"yes"], [number])
            self.requests.deliver(self.routes[which].outbox, run, 1, 0)
            assert future.result().payload == b"yes"

    def forget(self, index: int) -> None:
        if self.open:
            _, which, number, _ = self.open.pop(index % len(self.open))
            self.requests.forget(self.routes[which].outbox, number)

    def advance(self, by: float) -> None:
        self.now += by
        self.requests.expire(self.now)
        self.ended += [request[3] for request in self.open if request[0] <= self.now]
        self.open = [request for request in self.open if request[0] > self.now]

    def check(self) -> None:
        assert not any(request[3].done() for request in self.open)
        for future in self.ended:
            assert isinstance(future.exception(), RequestTimeout)
        assert self.plane.statistics.requests_timed_out == len(self.ended)
        assert sum(len(route.outbox.requests) for route in self.routes) == len(self.open)


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 1), st.floats(0.001, 10)),
    st.tuples(st.just("answer"), st.integers(0, 9)),
    st.tuples(st.just("forget"), st.integers(0, 9)),
    st.tuples(st.just("advance"), st.floats(0.001, 5)),
)


@given(steps=st.lists(STEPS, max_size=60))
@settings(deadline=None)
def test_every_request_ends_at_its_deadline_and_none_before(steps: list[tuple[Any, ...]]) -> None:
    with asyncio.Runner() as runner:
        bench = Bench(runner.get_loop())
        for name, *arguments in steps:
            method: Callable[..., None] = getattr(bench, name)
            method(*arguments)
            bench.check()
        bench.advance(11)
        bench.check()
        assert not bench.open
        bench.advance(11)  # the last look has come by
        assert [route.outbox.earliest_deadline for route in bench.routes] == [inf, inf]


def test_when_the_peer_is_lost_each_requester_gets_an_error_of_its_own() -> None:
    with asyncio.Runner() as runner:
        bench = Bench(runner.get_loop())
        bench.ask(0, 5)
        bench.ask(0, 5)
        bench.requests.fail(bench.routes[0].outbox, PeerLost("it is gone"))
        first, second = (request[3].exception() for request in bench.open)
        assert isinstance(first, PeerLost)
        assert isinstance(second, PeerLost)
        assert first is not second
