"""The proof that a seed decides everything: trials run again in other processes, with other orders of sets.

Each replay is a process of its own with its own ``PYTHONHASHSEED``. What is compared is the full trace: every event's
time and number, every message's text, every observation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from zmesh.errors import UsageError
from zmesh.testing.scenario import draw_scenario
from zmesh.testing.subjects import resolve
from zmesh.testing.trial import run_trial

__all__ = ["Difference", "digests", "replay"]

TIMEOUT_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Difference:
    """A replay that did not give what the first run gave."""

    seed: int
    hash_seed: int
    first: str
    again: str


def digests(subject: str, seeds: range) -> Iterator[str]:
    """The fingerprints of the seeds' trials, messages included."""
    subject_class = resolve(subject)
    for seed in seeds:
        yield run_trial(draw_scenario(subject_class.settings, seed), subject_class, full_trace=True).digest


def replay(subject: str, seeds: range, replays: int, jobs: int, tell: Callable[[], None]) -> list[Difference]:
    """Run the seeds ``replays`` times, each time in another process; where one differs from the first."""
    with ThreadPoolExecutor(jobs) as pool:
        runs = pool.map(lambda hash_seed: _in_a_process(subject, seeds, hash_seed), range(1, replays + 1))
        first = next(runs)
        tell()
        found = []
        for hash_seed, again in enumerate(runs, start=2):
            tell()
            pairs = zip(seeds, first, again, strict=True)
            found += [Difference(seed, hash_seed, one, other) for seed, one, other in pairs if one != other]
    return found


def _in_a_process(subject: str, seeds: range, hash_seed: int) -> list[str]:
    command = [sys.executable, "-m", "zmesh.testing", "digests", subject]
    command += ["--first", str(seeds.start), "--seeds", str(len(seeds))]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise UsageError(f"a replay ended with an error: {done.stderr.strip()[-500:]}")
    return done.stdout.split()
