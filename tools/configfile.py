"""The TOML file of ``--config``: read, checked key by key, and refused with one sentence that says where and what.

An unknown key is an error, not a warning: a misspelt ``bootstrap`` would otherwise start a node that is alone, with
nothing to say why.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from zmesh import ConfigurationError
from zmesh.tools.settings import Kind, Setting, Value, checked, checked_list, nearest

__all__ = ["read_config_file"]

_TYPE_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a table",
}


def read_config_file(path: str, settings: Sequence[Setting]) -> Mapping[str, Value]:
    """The file's values by key. Raises ``ConfigurationError`` naming the file, and the line of a syntax error."""
    known = {setting.key: setting for setting in settings if setting.in_file}
    values: dict[str, Value] = {}
    for key, value in _parse(path, _read(path)).items():
        if key not in known:
            raise ConfigurationError(f"{path}: unknown key {key!r}{nearest(key, known)}")
        values[key] = _checked(known[key], value, f"{path}: {key}")
    return values


def _read(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text at byte {error.start}, as TOML must be") from None


def _parse(path: str, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, line = _place(str(error), text)
        raise ConfigurationError(f"{path}, line {line}: not valid TOML: {what}") from None


def _place(message: str, text: str) -> tuple[str, int]:
    """tomllib puts the place at the end of its message; a user's editor wants the line first."""
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message, re.DOTALL)
    if match is None:
        return message, 1
    return match[1], int(match[2]) if match[2] else max(1, len(text.splitlines()))


def _checked(setting: Setting, value: object, source: str) -> Value:
    match setting.kind, value:
        case Kind.TEXT, str(text):
            return checked(setting, text, source)
        case Kind.SWITCH, bool(switch):
            return switch
        case Kind.LIST, list(items) if all(isinstance(item, str) for item in items):
            return checked_list(setting, items, source)
        case Kind.SECONDS, int() | float() if not isinstance(value, bool) and 0 < float(value) < float("inf"):
            return float(value)
    # The value itself is not shown: it may be a join string, which is a secret.
    found = _TYPE_NAMES.get(type(value), "a date")
    if setting.kind is Kind.LIST and found == "a list":
        found = "a list of other things"
    raise ConfigurationError(f"{source} must be {setting.kind.value}, not {found}")
