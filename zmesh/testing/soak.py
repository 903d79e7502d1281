"""Many seeds on all cores: each trial in one of a few processes, results as they come."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Final, Self

from zmesh.testing import report
from zmesh.testing.report import SoakReport, TrialRow
from zmesh.testing.scenario import draw_scenario
from zmesh.testing.subjects import resolve
from zmesh.testing.trial import run_trial

__all__ = ["run_seed", "soak"]

CHUNK: Final = 4  # seeds a process is given at once: handing them over must cost little, and progress be seen
QUEUED: Final = 4  # chunks for each process
GLANCE_S: Final = 0.2  # how often it is looked whether somebody wants to end it


def soak(subject: str, seeds: range, jobs: int, tell: Callable[[TrialRow], None]) -> SoakReport:
    """Run every seed; ``tell`` is called with each trial as it ends. Interrupted, it reports what it has."""
    started = time.monotonic()
    rows: list[TrialRow] = []
    with _Interrupts() as interrupts:
        for row in _rows(subject, seeds, jobs, interrupts):
            rows.append(row)
            tell(row)
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


class _Interrupts:
    """Ctrl-C, noted and not raised: an exception in the middle of a pool's locks would leave them locked for ever."""

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Interrupts come when this is over, and never to processes begun in here: what is blocked stays so by exec."""
        resource_tracker.ensure_running()  # the first time, it lets interrupts through
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.came:  # asked a second time: at once, then
            raise KeyboardInterrupt
        self.came = True


def _run_chunk(subject: str, seeds: range) -> list[TrialRow]:
    return [run_seed(subject, seed) for seed in seeds]


def _rows(subject: str, seeds: range, jobs: int, interrupts: _Interrupts) -> Iterator[TrialRow]:
    rows = _rows_of_pool(subject, seeds, jobs, interrupts) if jobs > 1 else (run_seed(subject, seed) for seed in seeds)
    with closing(rows):
        for row in rows:
            yield row
            if interrupts.came:
                return


def _rows_of_pool(subject: str, seeds: range, jobs: int, interrupts: _Interrupts) -> Generator[TrialRow]:
    chunks = iter([seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)])
    # Spawned, not forked: a child that begins with its parent's threads and locks is a source of hangs.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: list[Future[list[TrialRow]]] = []
        try:
            while not interrupts.came:
                while len(waiting) < jobs * QUEUED and (chunk := next(chunks, None)) is not None:
                    with interrupts.held_back():  # to hand over work may start a process
                        waiting.append(pool.submit(_run_chunk, subject, chunk))
                if not waiting:
                    return
                done, _ = wait(waiting, GLANCE_S, return_when=FIRST_COMPLETED)
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
