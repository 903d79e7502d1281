"""Flag over variable over file over default, for every setting of both programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmesh import ConfigurationError
from zmesh.tools.options import CLIENT_SETTINGS, NODE_SETTINGS, ClientChoice, NodeChoice, choose
from zmesh.tools.settings import Kind, Parser, Setting, add_flags


def node_choice(argv: list[str], environment: dict[str, str] | None = None) -> NodeChoice:
    parser = Parser(prog="zmesh-node")
    add_flags(parser, NODE_SETTINGS)
    return choose(NodeChoice, NODE_SETTINGS, parser.parse_args(argv), environment or {})


def toml_file(directory: Path, text: str) -> str:
    path = directory / "node.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


# What each setting is given as, in flag, variable and file, and what it then is.
EXAMPLES: dict[str, tuple[str, str, object]] = {
    "mesh": ("lab", '"lab"', "lab"),
    "home": ("/keys", '"/keys"', "/keys"),
    "name": ("desk", '"desk"', "desk"),
    "listen": ("tcp://*:7000", '"tcp://*:7000"', "tcp://*:7000"),
    "join": ("zmesh1.x", '"zmesh1.x"', "zmesh1.x"),
    "bootstrap": ("tcp://a:1", '["tcp://a:1"]', ("tcp://a:1",)),
    "advertise": ("example.org", '["example.org"]', ("example.org",)),
    "agent": ("mod:obj", '["mod:obj"]', ("mod:obj",)),
    "log_level": ("debug", '"debug"', "debug"),
}
SWITCHES = ("mdns", "json")


def test_the_examples_cover_every_setting() -> None:
    assert EXAMPLES.keys() | set(SWITCHES) | {"config"} == {setting.key for setting in NODE_SETTINGS}


@pytest.mark.parametrize("key", EXAMPLES)
def test_each_setting_has_a_flag_a_variable_and_a_key(key: str, tmp_path: Path) -> None:
    text, in_toml, value = EXAMPLES[key]
    by_flag = node_choice([f"--{key.replace('_', '-')}", text])
    by_variable = node_choice([], {f"ZMESH_{key.upper()}": text})
    by_file = node_choice(["--config", toml_file(tmp_path, f"{key} = {in_toml}")])
    assert getattr(NodeChoice(), key) != value
    assert [getattr(choice, key) for choice in (by_flag, by_variable, by_file)] == [value] * 3


@pytest.mark.parametrize("key", SWITCHES)
@pytest.mark.parametrize("on", [True, False])
def test_each_switch_can_be_set_either_way_in_each_form(key: str, on: bool, tmp_path: Path) -> None:
    path = toml_file(tmp_path, f"{key} = {str(on).lower()}")
    forms = (
        node_choice([f"--{key}" if on else f"--no-{key}"]),
        node_choice([], {f"ZMESH_{key.upper()}": "1" if on else "0"}),
        node_choice(["--config", path]),
    )
    assert [getattr(choice, key) for choice in forms] == [on] * 3


def test_a_flag_wins_over_a_variable_and_that_over_the_file(tmp_path: Path) -> None:
    path = toml_file(tmp_path, 'name = "file"\nmesh = "file"\nlisten = "tcp://*:1"\n')
    environment = {"ZMESH_CONFIG": path, "ZMESH_NAME": "variable", "ZMESH_MESH": "variable"}
    choice = node_choice(["--name", "flag"], environment)
    assert (choice.name, choice.mesh, choice.listen) == ("flag", "variable", "tcp://*:1")


def test_a_flag_switches_back_on_what_a_variable_switched_off() -> None:
    assert node_choice(["--mdns"], {"ZMESH_MDNS": "off"}).mdns


def test_a_list_is_repeated_as_a_flag_and_separated_by_commas_in_a_variable() -> None:
    assert node_choice(["--bootstrap", "a:1", "--bootstrap", "b:2"]).bootstrap == ("a:1", "b:2")
    assert node_choice([], {"ZMESH_BOOTSTRAP": "a:1, b:2,"}).bootstrap == ("a:1", "b:2")


def test_an_empty_variable_counts_as_not_set() -> None:
    assert node_choice([], {"ZMESH_NAME": "", "ZMESH_MDNS": ""}) == NodeChoice()


def test_the_config_is_what_the_user_chose(tmp_path: Path) -> None:
    argv = ["--name", "desk", "--mesh", "lab", "--home", str(tmp_path), "--listen", "tcp://127.0.0.1:7100", "--no-mdns"]
    config = node_choice(argv).network_config()
    assert (config.node_id, config.mesh, config.home) == ("desk", "lab", tmp_path)
    assert (config.listen, config.mdns, config.client) == ("tcp://127.0.0.1:7100", False, False)


def test_without_a_home_the_configs_own_default_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZMESH_HOME", str(tmp_path))
    assert node_choice([]).network_config().home == tmp_path


def test_the_command_line_client_joins_as_a_client() -> None:
    parser = Parser(prog="zmesh")
    add_flags(parser, CLIENT_SETTINGS)
    choice = choose(ClientChoice, CLIENT_SETTINGS, parser.parse_args(["--timeout", "2.5"]), {})
    assert choice.timeout == 2.5
    assert choice.network_config().client


def test_one_file_serves_both_programs(tmp_path: Path) -> None:
    path = toml_file(tmp_path, 'mesh = "lab"\nname = "desk"\ntimeout = 3\n')
    parser = Parser(prog="zmesh")
    add_flags(parser, CLIENT_SETTINGS)
    client = choose(ClientChoice, CLIENT_SETTINGS, parser.parse_args(["--config", path]), {})
    assert (client.mesh, client.timeout) == ("lab", 3.0)
    assert (node_choice(["--config", path]).mesh, node_choice(["--config", path]).name) == ("lab", "desk")


def test_a_join_string_is_not_in_the_repr() -> None:
    assert "zmesh1" not in repr(node_choice(["--join", "zmesh1.secret"]))


@pytest.mark.parametrize(
    ("argv", "environment", "text"),
    [
        (["--nmae", "x"], {}, "unknown argument '--nmae'; did you mean '--name'?"),
        (["--nam=x"], {}, "unknown argument '--nam'; did you mean '--name'?"),
        (["--log-level", "loud"], {}, "--log-level is 'loud', and must be one of debug, info, warning, error"),
        ([], {"ZMESH_LOG_LEVEL": "loud"}, "ZMESH_LOG_LEVEL is 'loud', and must be one of debug, info, warning, error"),
        ([], {"ZMESH_MDNS": "maybe"}, "ZMESH_MDNS is 'maybe', and must be 1 or 0"),
        (["--name"], {}, "argument --name: expected one argument"),
        (["--bootstrap", "foo"], {}, "--bootstrap: address 'foo' is not tcp://HOST:PORT: write tcp://foo:7650"),
        ([], {"ZMESH_BOOTSTRAP": "a:1,tcp://*:1"}, "ZMESH_BOOTSTRAP: address 'tcp://*:1' can be listened on"),
        (["--listen", "tcp://*:70000"], {}, "--listen: address 'tcp://*:70000': the port must be at most 65532"),
        (["--advertise", "tcp://10.0.0.5:7650"], {}, "--advertise: host 'tcp://10.0.0.5:7650': "),
        (["--home", ""], {}, "--home: the name of a directory must not be empty"),
        (["--config", "/nowhere.toml"], {}, "cannot read the configuration file /nowhere.toml: No such file"),
    ],
)
def test_wrong_usage_is_one_sentence(argv: list[str], environment: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        node_choice(argv, environment)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", ""])
def test_seconds_are_positive_and_finite(text: str) -> None:
    parser = Parser(prog="zmesh")
    add_flags(parser, CLIENT_SETTINGS)
    with pytest.raises(ConfigurationError, match=r"--timeout is .* must be a positive number of seconds"):
        choose(ClientChoice, CLIENT_SETTINGS, parser.parse_args([f"--timeout={text}"]), {})


def test_help_names_the_variable_and_the_key_of_every_flag() -> None:
    parser = Parser(prog="zmesh-node")
    add_flags(parser, NODE_SETTINGS)
    words = parser.format_help().replace("\n", " ")
    text = " ".join(words.split())
    for setting in NODE_SETTINGS:
        assert setting.flag in text
        assert f"[{setting.variable}{', ' + setting.key if setting.in_file else ''}]" in text


def test_a_settings_three_names_follow_from_one() -> None:
    setting = Setting("log_level", "", Kind.TEXT)
    assert (setting.flag, setting.variable) == ("--log-level", "ZMESH_LOG_LEVEL")
