"""Collects what the runs measured, and shows it: a table for people, rows of JSON for programs.

Only the ratio of two figures taken one after the other means much on a shared machine, so ratios are computed run by
run, between neighbours, and their median is given beside the medians of the figures themselves.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Contender", "Goal", "Measured", "Results", "Row", "benchmark_parser", "run_interleaved"]

OURS = "zmesh"
UNITS = {
    "messages_per_second": "1/s",
    "messages_per_second_receiver": "1/s",
    "requests_per_second": "1/s",
    "megabytes_per_second": "MB/s",
    "lost": "messages",
    "cpu_percent_sender": "%",
    "cpu_percent_receiver": "%",
    "p50_us": "us",
    "p99_us": "us",
    "p999_us": "us",
    "p50_s": "s",
    "p99_s": "s",
    "max_s": "s",
    "agreed_s": "s",
    "told_s": "s",
    "started_s": "s",
    "cpu_ms_per_second_per_node": "ms/s",
    "pss_mb_per_node": "MB",
    "connections_per_node": "",
    "removed_by_s": "s",
    "cpu_s": "s",
    "cpu_us_per_message": "us",
    "events_per_cpu_second": "1/s",
    "bytes_per_second_per_node": "B/s",
    "with_tcp_ip_bytes_per_second_per_node": "B/s",
    "frames_per_second_per_node": "1/s",
    "traffic_over_steady": "x",
    "busiest_over_steady": "x",
    "node_hours": "h",
    "false_deaths": "nodes",
    "false_deaths_of_healthy": "nodes",
    "false_deaths_per_1000_node_hours": "1/1000h",
    "bound95_per_1000_node_hours": "1/1000h",
    "bad_removed": "nodes",
    "healthy_removed": "nodes",
    "views": "views",
    "distinct_sizes": "sizes",
    "megabytes_per_node": "MB",
    "seeds_per_cpu_second": "1/s",
    "cpu_s_per_simulated_minute": "s",
}
RATIO_METRICS = ("messages_per_second", "requests_per_second", "p50_us", "p99_us")

Measured = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: the median of the runs, and the least and greatest of them."""

    system: str
    variant: str
    case: str
    metric: str
    value: float
    unit: str
    minimum: float
    maximum: float
    runs: int


@dataclass(frozen=True, slots=True)
class Contender:
    """A system in one case. ``measure`` makes one run from start to end, processes and all."""

    system: str
    variant: str
    measure: Callable[[], Measured] = field(compare=False)
    loop: str = ""  # the event loop in the variant, "" for none

    def is_rival_of(self, ours: Contender) -> bool:
        """Whether ``ours`` is to be divided by this one: a baseline on the same loop, or on none."""
        return self.system != OURS and self.loop in ("", ours.loop)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio shall reach: at least ``at_least``, or at most ``at_most``."""

    case: str
    metric: str
    against: str  # how the baseline's variant begins
    at_least: float | None = None
    at_most: float | None = None

    def judge(self, row: Row) -> str:
        """The goal and whether the row's median meets it, in words; "" if the row is not what the goal is about."""
        against = row.variant.partition(" / ")[2]
        if (row.case, row.metric) != (self.case, f"{self.metric}_ratio") or not against.startswith(self.against):
            return ""
        if self.at_least is not None:
            return f"goal >= {self.at_least:g}: {'met' if row.value >= self.at_least else 'MISSED'}"
        met = self.at_most is not None and row.value <= self.at_most
        return f"goal <= {self.at_most:g}: {'met' if met else 'MISSED'}"


class Results:
    """Every run of every contender in every case, in the order measured."""

    def __init__(self, goals: Sequence[Goal]) -> None:
        self._goals = goals
        self._runs: dict[str, dict[Contender, list[Measured]]] = {}

    def add(self, case: str, contender: Contender, measured: Measured) -> None:
        """Record one run. The n-th run of one contender pairs with the n-th of another."""
        self._runs.setdefault(case, {}).setdefault(contender, []).append(measured)

    def figure_rows(self, case: str) -> Iterator[Row]:
        """The figures of a case as measured."""
        for contender, runs in self._runs[case].items():
            for metric in runs[0]:
                values = [run[metric] for run in runs]
                yield _row(contender.system, contender.variant, case, metric, values, UNITS[metric])

    def ratio_rows(self, case: str) -> Iterator[Row]:
        """zmesh divided by each baseline it compares with, run by run."""
        measured = self._runs[case]
        for ours in (contender for contender in measured if contender.system == OURS):
            for rival in (contender for contender in measured if contender.is_rival_of(ours)):
                for metric in RATIO_METRICS:
                    pairs = zip(measured[ours], measured[rival], strict=True)
                    if metric in measured[ours][0]:
                        ratios = [mine[metric] / theirs[metric] for mine, theirs in pairs]
                        variant = f"{ours.variant} / {rival.variant}"
                        yield _row(f"{OURS}/{rival.system}", variant, case, f"{metric}_ratio", ratios, "x")

    def print_case(self, case: str) -> None:
        """Show one case to people."""
        print(f"\n{case}: median [minimum - maximum] of {self._run_count(case)} runs")
        lines = [["system", "variant", *next(iter(self._runs[case].values()))[0]]]
        for contender in self._runs[case]:
            rows = [row for row in self.figure_rows(case) if row.variant == contender.variant]
            lines.append([contender.system, contender.variant, *(_cell(row) for row in rows)])
        _print_columns(lines)
        for row in self.ratio_rows(case):
            verdict = next(filter(None, (goal.judge(row) for goal in self._goals)), "")
            print(f"  {row.metric:26} {row.variant:60} {_cell(row):>22}  {verdict}")

    def write_json(self, path: Path) -> None:
        """Write every row, figures and ratios, to ``path``."""
        rows = [asdict(row) for case in self._runs for row in (*self.figure_rows(case), *self.ratio_rows(case))]
        path.write_text(json.dumps(rows, indent=1) + "\n")

    def _run_count(self, case: str) -> int:
        return min(len(runs) for runs in self._runs[case].values())


def benchmark_parser(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--case", default="", help="only the case whose name ends in this, such as one-way/64")
    parser.add_argument("--runs", type=int, default=3, help="rounds of interleaved runs (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every count (default: 1)")
    parser.add_argument("--loop", choices=["uvloop", "asyncio", "both"], help="default: uvloop where installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    return parser


def run_interleaved(results: Results, case: str, contenders: Sequence[Contender], runs: int) -> None:
    """Measure every contender once, then every one again, and so on; each round starts with another of them."""
    for number in range(runs):
        first = number % len(contenders)
        measured = {c: c.measure() for c in (*contenders[first:], *contenders[:first])}
        for contender in contenders:
            results.add(case, contender, measured[contender])
    results.print_case(case)


def _row(system: str, variant: str, case: str, metric: str, values: Sequence[float], unit: str) -> Row:
    median = statistics.median(values)
    return Row(system, variant, case, metric, median, unit, min(values), max(values), len(values))


def _cell(row: Row) -> str:
    if row.minimum == row.maximum == 0:
        return "0"
    return f"{_number(row.value)} [{_number(row.minimum)} - {_number(row.maximum)}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _print_columns(lines: Iterable[list[str]]) -> None:
    table = list(lines)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for line in table:
        left = [cell.ljust(width) for cell, width in zip(line[:2], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        print("  " + "  ".join(left + right))
