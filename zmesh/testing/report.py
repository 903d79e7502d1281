"""What is said of trials: the failure with all that is needed to see it again, and the report of a soak."""

from __future__ import annotations

import platform
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from zmesh.testing.scenario import to_json
from zmesh.testing.trial import Outcome
from zmesh.version import __version__

__all__ = ["SoakReport", "TrialRow", "commit", "describe", "python", "replay_command", "soak_text", "write_soak"]

GIT_TIMEOUT_S: Final = 10
SHOWN_FAILURES: Final = 20


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial of a soak."""

    seed: int
    digest: str
    events: int
    simulated_s: float
    cpu_s: float
    settled_s: float
    failure: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class SoakReport:
    """All trials of a subject in a soak."""

    subject: str
    commit: str
    python: str
    first_seed: int
    seeds: int
    trials: int  # done; fewer than seeds when it was interrupted
    events: int
    simulated_s: float
    cpu_s: float
    wall_s: float
    slowest_settled_s: float
    failures: tuple[TrialRow, ...]

    @property
    def seeds_per_cpu_s(self) -> float:
        """How fast it went on one core."""
        return self.trials / self.cpu_s if self.cpu_s else 0.0

    @property
    def events_per_cpu_s(self) -> float:
        """How fast the event loop was, the machines included."""
        return self.events / self.cpu_s if self.cpu_s else 0.0


def commit() -> str:
    """The commit of the source that runs, with + where files have changed since; else the version of zmesh."""
    source = Path(__file__).parent

    def git(*args: str) -> str:
        command = ["git", "-C", str(source), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_S).stdout.strip()

    try:
        if git("ls-files", "--", "world.py"):  # and not some repository that a site-packages happens to be in
            return git("rev-parse", "--short=12", "HEAD") + "+" * bool(git("status", "--porcelain", "--", ".."))
    except (OSError, subprocess.SubprocessError):
        pass
    return f"zmesh {__version__}"


def python() -> str:
    """The Python that runs: traces are equal on one version alone."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def replay_command(subject: str, seed: int) -> str:
    """What shows this failure again."""
    return f"python -m zmesh.testing run {shlex.quote(subject)} --seed {seed}"


def describe(outcome: Outcome, subject: str, *, scenario: bool = False) -> str:
    """A failure, for a person: what, where, and how to see it again."""
    seed = outcome.scenario.seed
    lines = [
        f"{subject}: {outcome.failure}",
        f"  seed {seed}, commit {commit()}, {python()}, trace {outcome.digest}",
        f"  again:  {replay_command(subject, seed)}",
        f"  smaller: {replay_command(subject, seed)} --shrink",
    ]
    lines += [f"  {line}" for line in outcome.place.splitlines()]
    if scenario:
        lines += ["  scenario:", *(f"  {line}" for line in to_json(outcome.scenario).splitlines())]
    return "\n".join(lines)


def soak_text(report: SoakReport) -> str:
    """A soak, for a person."""
    done = f"{report.trials} of {report.seeds} seeds from {report.first_seed}, {len(report.failures)} failed"
    simulated = f"{report.simulated_s / 3600:.1f} simulated hours, {report.events:,} events"
    speed = f"{report.seeds_per_cpu_s:.1f} seeds and {report.events_per_cpu_s:,.0f} events per CPU-second"
    lines = [
        f"{report.subject}: {done}; commit {report.commit}, {report.python}",
        f"  {simulated}, {report.cpu_s:.1f} s of CPU, {report.wall_s:.1f} s of time",
        f"  {speed}; slowest to settle: {report.slowest_settled_s:.2f} s",
    ]
    for row in report.failures[:SHOWN_FAILURES]:
        lines += [f"  FAILED seed {row.seed}: {row.failure}", f"    again:  {replay_command(report.subject, row.seed)}"]
    if len(report.failures) > SHOWN_FAILURES:
        lines.append(f"  ... and {len(report.failures) - SHOWN_FAILURES} more, in the JSON report")
    return "\n".join(lines)


def write_soak(reports: list[SoakReport], directory: Path) -> None:
    """``soak.json`` and ``soak.txt`` in a directory, which is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "soak.json").write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n")
    (directory / "soak.txt").write_text("\n".join(soak_text(report) for report in reports) + "\n", encoding="utf-8")
