"""The examples are what a newcomer copies: each is run as its own first lines say."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

from tests.tools.programs import PATIENCE_S, ROOT, Program, environment

UNBUFFERED = {"PYTHONUNBUFFERED": "1"}


def example(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments]


def test_the_worker_answers_whoever_asks_by_capability(tmp_path: Path) -> None:
    with Program(example("worker", "work"), home=tmp_path, more=UNBUFFERED) as worker:
        worker.line("counts words")
        asked = subprocess.run(
            example("worker", "ask", "how many words are these"),
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert asked.returncode == 0, asked.stderr
        assert "5 words, counted by process" in asked.stdout
        worker.signal(signal.SIGINT)
        worker.line("stopped with 0 questions unanswered")
        assert worker.wait()[0] == 0


def test_the_chat_reaches_everybody_in_it(tmp_path: Path) -> None:
    with (
        Program(example("chat", "alice"), home=tmp_path, more=UNBUFFERED) as alice,
        Program(example("chat", "bob"), home=tmp_path, more=UNBUFFERED) as bob,
    ):
        for program in (alice, bob):
            program.line("hello ")
            program.line("is here")
        alice.write_until("good morning", bob, "alice: good morning")
        bob.write_until("likewise", alice, "bob: likewise")


def test_the_fast_sender_loses_nothing(tmp_path: Path) -> None:
    with Program(example("fast_sender"), home=tmp_path, more=UNBUFFERED) as sender:
        assert sender.line("received all") == "received all 500,000 messages"
        assert sender.line("a second").startswith("sent 500,000 messages, encrypted and acknowledged")
        assert sender.wait()[0] == 0


def test_a_seed_finds_the_bug_and_the_cure_helps(tmp_path: Path) -> None:
    done = subprocess.run(
        example("found_by_a_seed"),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clog of n" in done.stdout
    assert done.stdout.splitlines()[-1] == "with fencing tokens, 200 seeds hold"


def test_the_work_queue_runs_for_real_too(tmp_path: Path) -> None:
    script = str(Path("work_queue") / "work_queue")
    with (
        Program(example(script, "worker", "2"), home=tmp_path, more=UNBUFFERED) as worker,
        Program(example(script, "queue", "3"), home=tmp_path, more=UNBUFFERED),
    ):
        for number in range(3):
            worker.line(f"worker 2 does job {number}")


def outcome_of(project: Path, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=project,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def test_the_work_queue_loses_a_job_by_one_seed_and_none_once_it_is_put_right(tmp_path: Path) -> None:
    project = ROOT / "examples" / "work_queue"
    found = outcome_of(project, tmp_path, "-k", "HastyQueue")
    assert found.returncode == 1, found.stdout + found.stderr
    assert "every job is done does not hold after 30.0 s" in found.stdout
    again = [line for line in found.stdout.splitlines() if line.startswith("again: pytest ")]
    assert again, found.stdout
    shown = outcome_of(project, tmp_path, *shlex.split(again[0].removeprefix("again: pytest ")))
    assert shown.returncode == 1, shown.stdout + shown.stderr
    assert "1 failed" in shown.stdout
    traces = [line for line in (found.stdout + shown.stdout).splitlines() if ", trace " in line]
    assert traces[0] == traces[-1], "the same seed is another run"
    held = outcome_of(project, tmp_path, "-k", "not HastyQueue")
    assert held.returncode == 0, held.stdout + held.stderr
