"""What a program's end means: one sentence on standard error, and an exit code that a script can act on."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from enum import IntEnum

from zmesh import InvitationError, NetworkError, Refused, UnknownAgent, UsageError

__all__ = ["ExitCode", "exit_code_of", "run_program"]


class ExitCode(IntEnum):
    """The exit codes of ``zmesh-node`` and ``zmesh``, as docs/zmesh-node.md and docs/zmesh-cli.md give them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOBODY = 4
    INTERRUPTED = 130


# The rest are failures at run time.
_CODES: tuple[tuple[type[NetworkError], ExitCode], ...] = (
    (InvitationError, ExitCode.REFUSED),
    (Refused, ExitCode.REFUSED),
    (UnknownAgent, ExitCode.NOBODY),
    (UsageError, ExitCode.USAGE),
)


def exit_code_of(error: NetworkError) -> ExitCode:
    """The exit code for an error that ended the program."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def run_program(program: str, body: Callable[[], int]) -> int:
    """Run a program's body, and turn whatever ends it into an exit code and at most one sentence.

    An exception that is not a ``NetworkError`` is a bug, and passes: its traceback is what a report needs.
    """
    try:
        return body()
    except NetworkError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the flush at interpreter exit must not complain about it a second time.
        _discard_output()
        return ExitCode.FAILED
    except SystemExit as ended:  # argparse, after --help
        return ended.code if isinstance(ended.code, int) else ExitCode.OK


def _discard_output() -> None:
    with contextlib.suppress(OSError, ValueError):  # a standard output without a descriptor needs no rescue
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
