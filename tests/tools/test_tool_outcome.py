"""How a program ends: one sentence on standard error, and the code the manual gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zmesh import (
    AddressInUse,
    ConfigurationError,
    InternalError,
    InvitationError,
    KeystoreError,
    NetworkError,
    PeerLost,
    Refused,
    RequestTimeout,
    UnknownAgent,
    UsageError,
    __version__,
)
from zmesh.tools.outcome import ExitCode, exit_code_of, run_program


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError, 2),
        (AddressInUse, 2),
        (KeystoreError, 2),
        (InvitationError, 3),
        (Refused, 3),
        (UnknownAgent, 4),
        (RequestTimeout, 1),
        (PeerLost, 1),
        (UsageError, 2),
        (InternalError, 1),
    ],
)
def test_each_error_has_its_code(error: type[NetworkError], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise error("the reason")

    assert exit_code_of(error("x")) == code
    assert run_program("zmesh", fail) == code
    assert capsys.readouterr() == ("", "zmesh: the reason\n")


def test_the_bodys_own_code_is_returned() -> None:
    assert run_program("zmesh", lambda: 7) == 7


def test_an_interrupt_is_130() -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert run_program("zmesh", interrupt) == ExitCode.INTERRUPTED == 130


def test_a_bug_passes_with_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_program("zmesh", lambda: 1 // 0)


@pytest.mark.parametrize("module", ["zmesh.tools.node", "zmesh.tools.cli"])
def test_help_and_version_are_code_0_and_wrong_usage_code_2(module: str) -> None:
    def run(argument: str) -> subprocess.CompletedProcess[str]:
        code = f"import sys; from {module} import main; sys.exit(main([{argument!r}]))"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    helped, version, wrong = run("--help"), run("--version"), run("--wrong")
    assert (version.returncode, version.stdout) == (0, f"zmesh-agents {__version__}\n")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "exit codes: 0 " in helped.stdout
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
