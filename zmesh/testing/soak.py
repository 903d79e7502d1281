"""Many seeds on all cores: each trial in one of a few processes, results as they come."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Final

from zmesh.testing import report
from zmesh.testing.report import SoakReport, TrialRow
from zmesh.testing.scenario import draw_scenario
from zmesh.testing.subjects import resolve
from zmesh.testing.trial import run_trial

__all__ = ["run_seed", "soak"]

CHUNK: Final = 4  # seeds a process is given at once: handing them over must cost little, and progress be seen
QUEUED: Final = 4  # chunks for each process


def soak(subject: str, seeds: range, jobs: int, tell: Callable[[TrialRow], None]) -> SoakReport:
    """Run every seed; ``tell`` is called with each trial as it ends. Interrupted, it reports what it has."""
    started = time.monotonic()
    rows: list[TrialRow] = []
    try:
        for row in _rows(subject, seeds, jobs):
            rows.append(row)
            tell(row)
    except KeyboardInterrupt:
        pass
    return _sum_up(subject, seeds, rows, time.monotonic() - started)


def run_seed(subject: str, seed: int) -> TrialRow:
    """One trial, in this process."""
    subject_class = resolve(subject)
    scenario = draw_scenario(subject_class.settings, seed)
    started = time.process_time()
    outcome = run_trial(scenario, subject_class)
    return TrialRow(
        seed=seed,
        digest=outcome.digest,
        events=outcome.statistics.events,
        simulated_s=outcome.ended_at,
        cpu_s=time.process_time() - started,
        settled_s=outcome.settled_s,
        failure=outcome.failure,
        signature=outcome.signature,
    )


@contextmanager
def _interrupts_left_to_the_parent() -> Iterator[None]:
    """Processes begun in here ignore interrupts from their first instruction on: what is ignored stays so by exec."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _run_chunk(subject: str, seeds: range) -> list[TrialRow]:
    return [run_seed(subject, seed) for seed in seeds]


def _rows(subject: str, seeds: range, jobs: int) -> Iterator[TrialRow]:
    if jobs == 1:
        yield from (run_seed(subject, seed) for seed in seeds)
        return
    chunks = iter([seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)])
    # Spawned, not forked: a child that begins with its parent's threads and locks is a source of hangs.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting: list[Future[list[TrialRow]]] = []
        try:
            while True:
                while len(waiting) < jobs * QUEUED and (chunk := next(chunks, None)) is not None:
                    with _interrupts_left_to_the_parent():  # to hand over work may start a process
                        waiting.append(pool.submit(_run_chunk, subject, chunk))
                if not waiting:
                    return
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in [future for future in waiting if future in done]:
                    waiting.remove(future)
                    yield from future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _sum_up(subject: str, seeds: range, rows: list[TrialRow], wall_s: float) -> SoakReport:
    failures = sorted((row for row in rows if row.failure), key=lambda row: row.seed)
    return SoakReport(
        subject=subject,
        commit=report.commit(),
        python=report.python(),
        first_seed=seeds.start,
        seeds=len(seeds),
        trials=len(rows),
        events=sum(row.events for row in rows),
        simulated_s=sum(row.simulated_s for row in rows),
        cpu_s=sum(row.cpu_s for row in rows),
        wall_s=wall_s,
        slowest_settled_s=max((row.settled_s for row in rows), default=0.0),
        failures=tuple(failures),
    )
