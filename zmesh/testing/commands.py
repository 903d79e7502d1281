"""``python -m zmesh.testing``: run one seed or many, shrink what fails, prove that replay is exact."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from zmesh.errors import UsageError
from zmesh.testing.replay import digests, replay
from zmesh.testing.report import TrialRow, describe, replay_command, soak_text, write_soak
from zmesh.testing.scenario import Scenario, draw_scenario, from_json, to_json
from zmesh.testing.shrink import shrink
from zmesh.testing.soak import soak
from zmesh.testing.subjects import SUBJECTS, resolve
from zmesh.testing.trial import Outcome, run_trial

__all__ = ["main"]

BAR_WIDTH = 30
TOLD_EVERY_S = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """0: nothing failed. 1: something did. 2: the command was wrong."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except (UsageError, OSError, msgspec.ValidationError) as error:
        print(f"python -m zmesh.testing: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m zmesh.testing", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    what = f"{', '.join(SUBJECTS)}, or module:Class"

    one = commands.add_parser("run", help="run one seed or scenario; say what failed")
    one.add_argument("subject", help=what)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--scenario", type=Path, help="a file with a scenario, in place of the one that the seed draws")
    one.add_argument("--shrink", action="store_true", help="look for a smaller scenario that fails in the same way")
    one.add_argument("--save", type=Path, help="write the scenario (the shrunk one) to this file")
    one.set_defaults(command=_run)

    many = commands.add_parser("soak", help="run many seeds on all cores and write a report")
    many.add_argument("subjects", nargs="*", default=list(SUBJECTS), help=what)
    _add_range(many, 1000)
    many.add_argument("--report", type=Path, help="a directory for soak.json and soak.txt")
    many.set_defaults(command=_soak)

    again = commands.add_parser("replay", help="run seeds again in other processes; they must repeat exactly")
    again.add_argument("subjects", nargs="*", default=list(SUBJECTS), help=what)
    _add_range(again, 100)
    again.add_argument("--replays", type=int, default=100)
    again.set_defaults(command=_replay)

    bare = commands.add_parser("digests", help="print the fingerprint of each seed's full trace")
    bare.add_argument("subject", help=what)
    _add_range(bare, 1)
    bare.set_defaults(command=_digests)
    return parser


def _add_range(parser: argparse.ArgumentParser, seeds: int) -> None:
    parser.add_argument("--seeds", type=int, default=seeds, help="how many (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first one (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")


def _seeds(arguments: argparse.Namespace) -> range:
    return range(arguments.first, arguments.first + arguments.seeds)


# -- commands ----------------------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    subject_class = resolve(arguments.subject)
    if arguments.scenario is not None:
        scenario = from_json(arguments.scenario.read_text(encoding="utf-8"))
    else:
        scenario = draw_scenario(subject_class.settings, arguments.seed)

    def run(candidate: Scenario) -> Outcome:
        return run_trial(candidate, subject_class)

    outcome = run(scenario)
    if outcome.is_failure and arguments.shrink:
        shrunk = shrink(outcome, run)
        before, after = len(scenario.faults), len(shrunk.outcome.scenario.faults)
        print(f"shrunk in {shrunk.trials} trials: {before} faults became {after}")
        outcome = shrunk.outcome
    if arguments.save is not None:
        arguments.save.write_text(to_json(outcome.scenario) + "\n", encoding="utf-8")
    _print_outcome(outcome, arguments)
    return 1 if outcome.is_failure else 0


def _print_outcome(outcome: Outcome, arguments: argparse.Namespace) -> None:
    if outcome.is_failure:
        print(describe(outcome, arguments.subject, scenario=arguments.shrink))
        return
    seed, statistics = outcome.scenario.seed, outcome.statistics
    print(f"{arguments.subject}: seed {seed} holds; settled in {outcome.settled_s:.2f} s, trace {outcome.digest}")
    print(f"  {len(outcome.scenario.faults)} faults, {statistics.events:,} events, {statistics.sent:,} messages")


def _soak(arguments: argparse.Namespace) -> int:
    reports = []
    for subject in arguments.subjects:
        resolve(subject)
        with _Bar(subject, arguments.seeds) as bar:
            reports.append(soak(subject, _seeds(arguments), arguments.jobs, bar.ended))
        print(soak_text(reports[-1]), flush=True)
        if reports[-1].trials < arguments.seeds:
            break
    if arguments.report is not None:
        write_soak(reports, arguments.report)
    is_whole = len(reports) == len(arguments.subjects) and all(report.trials == report.seeds for report in reports)
    return 0 if is_whole and not any(report.failures for report in reports) else 1


def _replay(arguments: argparse.Namespace) -> int:
    is_exact = True
    for subject in arguments.subjects:
        resolve(subject)
        with _Bar(subject, arguments.replays) as bar:
            found = replay(subject, _seeds(arguments), arguments.replays, arguments.jobs, bar.step)
        for difference in found[:10]:
            print(f"{subject}: seed {difference.seed} differs with PYTHONHASHSEED={difference.hash_seed}")
        if not found:
            print(f"{subject}: {arguments.seeds} seeds repeated exactly in {arguments.replays} processes")
        is_exact = is_exact and not found
    return 0 if is_exact else 1


def _digests(arguments: argparse.Namespace) -> int:
    for digest in digests(arguments.subject, _seeds(arguments)):
        print(digest, flush=True)
    return 0


class _Bar:
    """Progress on a terminal; failures at once, wherever the output goes."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        self._done = self._failed = 0
        self._started = time.monotonic()
        self._told_at = 0.0
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._clear()

    def ended(self, row: TrialRow) -> None:
        """A trial has ended."""
        if row.failure:
            self._failed += 1
            self._clear()
            again = replay_command(self._name, row.seed)
            print(f"FAILED {self._name} seed {row.seed}: {row.failure}\n  again:  {again}", file=sys.stderr)
        self.step()

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if self._is_terminal and now - self._told_at >= TOLD_EVERY_S:
            self._told_at = now
            full = BAR_WIDTH * self._done // max(self._total, 1)
            rate = self._done / (now - self._started)
            left_s = (self._total - self._done) / rate
            bar = "#" * full + "." * (BAR_WIDTH - full)
            counts = f"{self._done}/{self._total}, {self._failed} failed, {rate:.1f}/s, {left_s:.0f} s left"
            print(f"\r{self._name} [{bar}] {counts}\x1b[K", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
