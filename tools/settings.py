"""One table for every setting, so that a flag, its environment variable and its TOML key can never drift apart.

A setting called ``log_level`` is the flag ``--log-level``, the variable ``ZMESH_LOG_LEVEL`` and the key ``log_level``.
The flag wins over the variable, the variable over the file, and the file over the default. An empty variable counts
as not set, since that is the only way to unset one in most service files.
"""

from __future__ import annotations

import argparse
import difflib
import enum
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zmesh import ConfigurationError, __version__

__all__ = [
    "Kind",
    "Parser",
    "Setting",
    "Value",
    "add_flags",
    "checked",
    "checked_list",
    "nearest",
    "positive",
    "resolve",
]

Value = str | bool | float | tuple[str, ...]

SWITCH_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class Kind(enum.Enum):
    """What values a setting takes."""

    TEXT = "a string"
    LIST = "a list of strings"
    SWITCH = "true or false"
    SECONDS = "a positive number of seconds"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting in all its three forms."""

    key: str
    help: str
    kind: Kind = Kind.TEXT
    metavar: str = ""
    choices: tuple[str, ...] = ()
    in_file: bool = True
    check: Callable[[str], object] | None = None  # raises ``ConfigurationError`` for a text, or item of a list

    @property
    def flag(self) -> str:
        """The command-line flag: ``--log-level``."""
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable: ``ZMESH_LOG_LEVEL``."""
        return "ZMESH_" + self.key.upper()


class Parser(argparse.ArgumentParser):
    """argparse that raises ``ConfigurationError`` with one sentence instead of printing its usage and exiting."""

    def __init__(self, **keywords: Any) -> None:
        # An abbreviation would change its meaning with the next flag that starts alike.
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **keywords)

        self.add_argument("--version", action="version", version=f"zmesh-agents {__version__}")

    def error(self, message: str) -> Any:
        """Raise the message as a ``ConfigurationError``."""
        raise ConfigurationError(f"{message} ('{self.prog} --help' lists what there is)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; an unknown flag is an error that names the nearest one of this command."""
        arguments, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            self.error(f"unknown argument {word!r}{nearest(word, self._option_string_actions)}")
        return arguments, unknown


def add_flags(parser: argparse.ArgumentParser, settings: Sequence[Setting]) -> None:
    """Give the parser a flag for each setting, its help naming the variable and the key."""
    for setting in settings:
        described = f"{setting.help} [{setting.variable}{', ' + setting.key if setting.in_file else ''}]"
        if setting.kind is Kind.SWITCH:
            parser.add_argument(
                setting.flag,
                dest=setting.key,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=described,
            )
            continue
        parser.add_argument(
            setting.flag,
            dest=setting.key,
            action="append" if setting.kind is Kind.LIST else "store",
            metavar=setting.metavar or "|".join(setting.choices) or setting.key.upper(),
            default=argparse.SUPPRESS,
            help=described,
        )


def resolve(
    settings: Sequence[Setting],
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    read_file: Callable[[str], Mapping[str, Value]],
) -> dict[str, Value]:
    """What the user chose, by key; a setting chosen nowhere is absent.

    ``read_file`` is called with the path of ``--config``, if there is one. Raises ``ConfigurationError``.
    """
    flags = vars(arguments)
    chosen = _from_environment(settings, environment)
    chosen.update({s.key: _from_flag(s, flags[s.key]) for s in settings if s.key in flags})
    path = chosen.pop("config", None)
    in_file = read_file(str(path)) if path is not None else {}
    keys = {setting.key for setting in settings}
    return {key: value for key, value in in_file.items() if key in keys} | chosen


def nearest(word: str, known: Collection[str]) -> str:
    """``"; did you mean 'name'?"`` for the known word most like this one, or what there is when none is like it."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(sorted(known))})"


def _from_text(setting: Setting, text: str, source: str) -> Value:
    """A value written as text, in a flag or a variable. Raises ``ConfigurationError`` naming the source."""
    match setting.kind:
        case Kind.LIST:
            return checked_list(setting, [part.strip() for part in text.split(",") if part.strip()], source)
        case Kind.SWITCH:
            if text.lower() not in SWITCH_WORDS:
                raise ConfigurationError(f"{source} is {text!r}, and must be 1 or 0")
            return SWITCH_WORDS[text.lower()]
        case Kind.SECONDS:
            try:
                return positive(text)
            except ValueError:
                raise ConfigurationError(f"{source} is {text!r}, and must be {Kind.SECONDS.value}") from None
        case Kind.TEXT:
            return checked(setting, text, source)


def checked(setting: Setting, text: str, source: str) -> str:
    """The text, if the setting allows it. Raises ``ConfigurationError`` naming the source."""
    if setting.choices and text not in setting.choices:
        raise ConfigurationError(f"{source} is {text!r}, and must be one of {', '.join(setting.choices)}")
    if setting.check is not None:
        try:
            setting.check(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}: {error}") from None
    return text


def checked_list(setting: Setting, texts: Sequence[str], source: str) -> tuple[str, ...]:
    """The texts, if the setting allows each of them. Raises ``ConfigurationError`` naming the source."""
    return tuple(checked(setting, text, source) for text in texts)


def _from_environment(settings: Sequence[Setting], environment: Mapping[str, str]) -> dict[str, Value]:
    return {
        setting.key: _from_text(setting, environment[setting.variable], setting.variable)
        for setting in settings
        if environment.get(setting.variable)
    }


def _from_flag(setting: Setting, value: str | bool | list[str]) -> Value:
    if isinstance(value, str):
        return _from_text(setting, value, setting.flag)
    return checked_list(setting, value, setting.flag) if isinstance(value, list) else value


def positive(text: str) -> float:
    """The text as a finite number above zero. Raises ``ValueError``."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number
