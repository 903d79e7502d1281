"""The TOML file: every mistake is one sentence that names the file and says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmesh import ConfigurationError
from zmesh.tools.configfile import read_config_file
from zmesh.tools.options import CLIENT_SETTINGS, NODE_SETTINGS

SETTINGS = {setting.key: setting for setting in (*NODE_SETTINGS, *CLIENT_SETTINGS)}


def read(directory: Path, content: str | bytes) -> dict[str, object]:
    path = directory / "zmesh.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return dict(read_config_file(str(path), list(SETTINGS.values())))


def test_values_have_the_settings_types(tmp_path: Path) -> None:
    content = 'name = "desk"\nbootstrap = ["tcp://a:1", "tcp://b:2"]\nmdns = false\ntimeout = 2\n'
    assert read(tmp_path, content) == {
        "name": "desk",
        "bootstrap": ("tcp://a:1", "tcp://b:2"),
        "mdns": False,
        "timeout": 2.0,
    }


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n") == {}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('nmae = "desk"', "unknown key 'nmae'; did you mean 'name'?"),
        ('bootstraps = ["a"]', "unknown key 'bootstraps'; did you mean 'bootstrap'?"),
        ('log-level = "debug"', "unknown key 'log-level'; did you mean 'log_level'?"),
        ("zzz = 1", "unknown key 'zzz' (known: advertise, agent, bootstrap"),
        ('config = "other.toml"', "unknown key 'config'"),
        ("[mesh]\nx = 1", "mesh must be a string, not a table"),
        ("name = 5", "name must be a string, not a number"),
        ("mdns = 1", "mdns must be true or false, not a number"),
        ('bootstrap = "tcp://a:1"', "bootstrap must be a list of strings, not a string"),
        ("bootstrap = [1]", "bootstrap must be a list of strings, not a list of other things"),
        ("timeout = true", "timeout must be a positive number of seconds, not true or false"),
        ("timeout = 0", "timeout must be a positive number of seconds, not a number"),
        ("name = 2020-01-01", "name must be a string, not a date"),
        ('log_level = "loud"', "log_level is 'loud', and must be one of debug, info, warning, error"),
        ('name = "desk"\nmesh =\n', "zmesh.toml, line 2: not valid TOML: Invalid value"),
        ('name = "desk"\nmesh = "open', "zmesh.toml, line 2: not valid TOML: "),
        ('name = "a"\nname = "b"\n', "zmesh.toml, line 2: not valid TOML: Cannot overwrite a value"),
        (b'name = "\xff"', "zmesh.toml: not UTF-8 text at byte 8, as TOML must be"),
    ],
)
def test_a_mistake_is_one_sentence(content: str | bytes, text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, content)
    assert text in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_join_string_of_the_wrong_type_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, 'join = ["zmesh1.secret"]')
    assert "secret" not in str(caught.value)


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the configuration file .*: Is a directory"):
        read_config_file(str(tmp_path), [])
