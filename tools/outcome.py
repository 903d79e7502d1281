"""What a program's end means: one sentence on standard error, and an exit code that a script can act on."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn

from zmesh import InvitationError, NetworkError, Refused, UnknownAgent, UsageError

__all__ = ["ExitCode", "exit_code_of", "output_lost", "run_program"]


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
        _prepare_streams()
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


def output_lost(error: OSError) -> NoReturn:
    """End the program because it cannot write any more: without a word where nobody reads, else with the reason."""
    if error.errno in (errno.EPIPE, errno.EIO):  # EIO: the terminal is gone
        raise BrokenPipeError from error
    _discard_output()
    raise NetworkError(f"cannot write to standard output: {error.strerror}") from error


def _prepare_streams() -> None:
    """Give a program that was started with closed standard streams empty ones, and an output that takes every text.

    Else its first socket would get the number of a stream, and whatever is printed; and a character that the terminal's
    encoding lacks would end the program.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # the lowest free number is given out first
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    with contextlib.suppress(OSError, ValueError):  # a standard output without a descriptor needs no rescue
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
