"""The programs: one seed, many seeds, replays, shrinking; and what they say when something fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testing.bugs import BuggySubject, FineSubject
from zmesh.testing import assert_holds
from zmesh.testing.commands import main
from zmesh.testing.report import TrialRow
from zmesh.testing.scenario import from_json
from zmesh.testing.soak import run_seed, soak
from zmesh.testing.subjects import SUBJECTS, name_of, resolve

ROOT = Path(__file__).parents[2]
BUGGY, FINE = "tests.testing.bugs:BuggySubject", "tests.testing.bugs:FineSubject"
FAILING = next(seed for seed in range(50) if run_seed(BUGGY, seed).failure)


def run_program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zmesh.testing", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment or None)


def test_a_seed_that_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", FINE, "--seed", "3"]) == 0
    assert "seed 3 holds" in capsys.readouterr().out


def test_a_failure_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", BUGGY, "--seed", str(FAILING)]) == 1
    first = capsys.readouterr().out
    assert f"python -m zmesh.testing run {BUGGY} --seed {FAILING}" in first
    assert "was silent for" in first
    assert "commit " in first
    assert main(["run", BUGGY, "--seed", str(FAILING)]) == 1
    assert capsys.readouterr().out == first


def test_a_shrunk_scenario_is_saved_and_fails_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "small.json"
    assert main(["run", BUGGY, "--seed", str(FAILING), "--shrink", "--save", str(saved)]) == 1
    assert "faults became 2" in capsys.readouterr().out
    assert len(from_json(saved.read_text(encoding="utf-8")).faults) == 2
    assert main(["run", BUGGY, "--scenario", str(saved)]) == 1
    assert "was silent for" in capsys.readouterr().out


def test_a_soak_on_two_cores_finds_what_one_core_finds(tmp_path: Path) -> None:
    done = run_program("soak", BUGGY, "--seeds", "20", "--jobs", "2", "--report", str(tmp_path))
    assert done.returncode == 1, done.stderr
    (report,) = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))
    rows: list[TrialRow] = []
    alone = soak(BUGGY, range(20), 1, rows.append)
    assert [row["seed"] for row in report["failures"]] == [row.seed for row in alone.failures]
    assert [row["digest"] for row in report["failures"]] == [row.digest for row in alone.failures]
    assert (report["trials"], report["events"]) == (20, sum(row.events for row in rows))
    seed = alone.failures[0].seed
    assert f"python -m zmesh.testing run {BUGGY} --seed {seed}" in done.stdout
    assert f"FAILED {BUGGY} seed {seed}" in done.stderr
    assert (tmp_path / "soak.txt").read_text(encoding="utf-8") == done.stdout


def test_an_interrupted_soak_reports_what_it_has() -> None:
    command = [sys.executable, "-m", "zmesh.testing", "soak", BUGGY, "--seeds", "100000", "--jobs", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes) as soaking:
        assert soaking.stderr is not None
        assert "FAILED" in soaking.stderr.readline()  # it is under way
        os.killpg(soaking.pid, signal.SIGINT)  # as a terminal does it: the workers get it too
        told, errors = soaking.communicate(timeout=60)
    assert soaking.returncode == 1
    assert re.search(r"\d+ of 100000 seeds from 0, \d+ failed", told)
    assert "Traceback" not in errors


def test_a_soak_without_failures_succeeds() -> None:
    done = run_program("soak", FINE, "--seeds", "4", "--jobs", "1", "--first", "7")
    assert done.returncode == 0
    assert "4 of 4 seeds from 7, 0 failed" in done.stdout


def test_what_is_no_subject_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("nothing", "zmesh.testing:World", "no.such.module:Class"):
        assert main(["run", name]) == 2
        assert name in capsys.readouterr().err


def test_subjects_have_one_name() -> None:
    assert [name_of(resolve(name)) for name in SUBJECTS] == list(SUBJECTS)
    assert resolve(name_of(BuggySubject)) is BuggySubject
    assert [resolve(name).settings.subject for name in SUBJECTS] == list(SUBJECTS)


def test_a_test_of_a_seed_fails_with_the_report() -> None:
    assert assert_holds(FineSubject, 1).settled_s == 0.0
    with pytest.raises(AssertionError, match=rf"was silent for(.|\n)*again: .*--seed {FAILING}"):
        assert_holds(BuggySubject, FAILING)


def test_an_exception_of_what_is_tested_is_a_failure_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "tests.testing.bugs:BrokenSubject"]) == 1
    told = capsys.readouterr().out
    assert "exception, 0.000000 s: ZeroDivisionError: float division by zero" in told
    assert "in start" in told
