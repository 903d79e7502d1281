"""How long a request takes, and how many go through with 1,000 open, zmesh beside raw pyzmq.

Run: ``python perf/latency.py``. Two processes on loopback TCP, 64-byte payloads, CURVE everywhere. ``request-reply/1``
has one request open at a time and is held against blocking DEALER/ROUTER calls. ``request-reply/1000`` has 1,000 tasks,
each awaiting its own request with its own deadline. It is held against raw DEALER/ROUTER on ``add_reader``, one frame
a message and 1,000 open, in two shapes: ``futures`` serves 1,000 tasks likewise, each request with a future and a
deadline, and the goal is set against it; ``window`` only counts answers, which is the most the sockets can do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import _baseline_requests
import _mesh
from _harness import RUN_S, Job, Process, Values, loop_names, play_role, run_script
from _report import Contender, Goal, Measured, Results, benchmark_parser, run_interleaved

PAYLOAD_BYTES = 64
IN_FLIGHT = 1000
ONE_AT_A_TIME = "request-reply/1"
MANY_IN_FLIGHT = f"request-reply/{IN_FLIGHT}"
GOALS = (
    Goal(ONE_AT_A_TIME, "p50_us", "dealer-router,curve", at_most=1.5),
    Goal(ONE_AT_A_TIME, "p99_us", "dealer-router,curve", at_most=1.7),
    Goal(MANY_IN_FLIGHT, "requests_per_second", "dealer-router,curve,futures", at_least=8.0),
)


def measure(server: Job, client: Job) -> Measured:
    """One run: the server announces itself, the client warms up, measures and says what it saw."""
    with tempfile.TemporaryDirectory(prefix="zmesh-perf-") as home, ExitStack() as stack:
        serving = stack.enter_context(Process(server.at_home(home)))
        asking = stack.enter_context(Process(client.at_home(home).towards(serving.ask())))
        said = asking.ask(RUN_S)
        serving.tell()
        return latency_of(said) if client.in_flight == 1 else rate_of(said)


def latency_of(said: Values) -> Measured:
    """The metrics of round trips made one at a time."""
    names = {"p50_us": "p50_us", "p99_us": "p99_us", "p999_us": "p999_us", "cpu_percent": "cpu_percent_sender"}
    return {metric: float(said[name]) for name, metric in names.items()}


def rate_of(said: Values) -> Measured:
    """The metrics of many requests in flight."""
    answered = float(said["received"])
    return {
        "requests_per_second": answered / float(said["elapsed_s"]),
        "lost": float(said["sent"]) - answered,
        "cpu_percent_sender": float(said["cpu_percent"]),
    }


def one_at_a_time(scale: float, loops: list[str]) -> Iterator[Contender]:
    """zmesh on each loop, then blocking DEALER/ROUTER."""
    job = partial(Job, count=max(100, int(20_000 * scale)), size=PAYLOAD_BYTES, warmup=1_000)
    for loop in loops:
        sides = (job("zmesh.echo", loop=loop), job("zmesh.request_one", loop=loop))
        yield Contender("zmesh", f"curve,acked,{loop}", partial(measure, *sides), loop)
    sides = (job("pyzmq.echo_blocking", curve=True), job("pyzmq.request_blocking", curve=True))
    yield Contender("pyzmq", "dealer-router,curve,blocking", partial(measure, *sides))


def many_in_flight(scale: float, loops: list[str]) -> Iterator[Contender]:
    """On each loop: zmesh, then both raw echoes. The raw ones make fewer requests, to take about as long."""
    job = partial(Job, size=PAYLOAD_BYTES, warmup=5_000, in_flight=IN_FLIGHT, curve=True)
    mesh_count, raw_count = (max(IN_FLIGHT, int(count * scale)) for count in (600_000, 100_000))
    for loop in loops:
        sides = (job("zmesh.echo", mesh_count, loop=loop), job("zmesh.request_many", mesh_count, loop=loop))
        yield Contender("zmesh", f"curve,acked,{loop}", partial(measure, *sides), loop)
        server = job("pyzmq.echo_add_reader", raw_count, loop=loop)
        for kind in ("futures", "window"):
            client = job(f"pyzmq.request_{kind}", raw_count, loop=loop)
            yield Contender("pyzmq", f"dealer-router,curve,{kind},{loop}", partial(measure, server, client), loop)


CASES = {ONE_AT_A_TIME: one_at_a_time, MANY_IN_FLIGHT: many_in_flight}


def main(argv: list[str]) -> int:
    """Run the cases asked for and show them."""
    if play_role(argv, _baseline_requests.ROLES | _mesh.ROLES):
        return 0
    options = benchmark_parser("Latency of zmesh beside raw pyzmq: two processes on loopback TCP.").parse_args(argv)
    loops = loop_names(options.loop)
    results = Results(GOALS)
    for case, contenders in CASES.items():
        if case.endswith(options.case):
            run_interleaved(results, case, list(contenders(options.scale, loops)), options.runs)
    if options.json:
        results.write_json(options.json)
    return 0


if __name__ == "__main__":
    run_script(main)
