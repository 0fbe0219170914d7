"""The command line without a cluster: usage, configuration, and how failure looks to a script."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from d_engine.cli.app import app
from d_engine.cli.cluster import kept_for_clients, snapshot_words
from d_engine.cli.common import (
    EXIT_LOCAL,
    EXIT_NOT_APPLIED,
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    fails_clearly,
    text_of,
)
from d_engine.format.errors import (
    ConfigError,
    DataDirectoryLockedError,
    DEngineError,
    InvalidRequestError,
    MembershipError,
    NoLeaderError,
    OutcomeUnknownTimeoutError,
    OverloadedError,
    UnavailableError,
)
from d_engine.testing.processes import free_ports

COMMANDS = (
    *("serve", "put", "get", "delete", "cas", "scan", "range", "txn", "watch", "status", "members", "leader"),
    *("transfer", "config", "bench", "demo", "sim", "inspect", "recover", "lease"),
)


def run(*arguments: str, input: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=input)


def test_help_names_every_command_and_the_exit_codes() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in result.output
    assert "Exit codes" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


def test_nobody_answers() -> None:
    (port,) = free_ports(1)
    result = run("get", "k", "-e", f"127.0.0.1:{port}", "--timeout", "0.3")
    assert result.exit_code == EXIT_NOT_APPLIED
    assert str(port) in result.stderr
    assert "Traceback" not in result.output


def test_endpoints_come_from_the_environment_too() -> None:
    (port,) = free_ports(1)
    environment = {"D_ENGINE_ENDPOINTS": f"127.0.0.1:{port}"}
    result = CliRunner().invoke(app, ["leader", "--timeout", "0.3"], env=environment)
    assert result.exit_code == EXIT_NOT_APPLIED
    assert str(port) in result.stderr


def test_an_endpoint_that_is_none() -> None:
    result = run("get", "k", "-e", "nowhere")
    assert result.exit_code == EXIT_LOCAL
    assert "nowhere" in result.stderr


def test_cas_needs_an_expectation() -> None:
    assert run("cas", "k", "v").exit_code == 2
    assert run("cas", "k", "v", "--absent", "--expected", "x").exit_code == 2


def test_delete_takes_a_key_or_a_prefix() -> None:
    assert run("delete").exit_code == 2
    assert run("delete", "k", "--prefix", "p").exit_code == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "no transaction"),
        (b'{"then": [{"op": "put", "key": "a"}]}', "`value` - at `$.then[0]`"),
        (b'{"then": [{"op": "swap", "key": "a"}]}', "'swap'"),
        (b'{"else": []}', "`else`"),
        (b'{"then": [{"op": "get", "key": {"base64": "*"}}]}', "no base64"),
        (b'{"then": [{"op": "get", "key": {}}]}', "give bytes as"),
        (b"\xff", "no transaction"),
    ],
)
def test_what_is_no_transaction(text: bytes, complaint: str) -> None:
    result = run("txn", input=text)
    assert result.exit_code == 2
    assert complaint in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoLeaderError("x"), EXIT_NOT_APPLIED),
        (OverloadedError("x"), EXIT_NOT_APPLIED),
        (UnavailableError("x"), EXIT_NOT_APPLIED),
        (OutcomeUnknownTimeoutError("x"), EXIT_UNKNOWN),
        (InvalidRequestError("x"), EXIT_REFUSED),
        (MembershipError("x"), EXIT_REFUSED),
        (ConfigError("x"), EXIT_LOCAL),
        (DataDirectoryLockedError("x"), EXIT_LOCAL),
    ],
)
def test_exit_codes_tell_the_families_of_errors_apart(error: DEngineError, code: int) -> None:
    @click.command()
    @fails_clearly
    def failing() -> None:
        raise error

    result = CliRunner().invoke(failing)
    assert result.exit_code == code
    assert result.stderr == f"d-engine: {error.code}: x\n"


def test_config_check_tells_where_each_value_came_from(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[raft]\nheartbeat_ms = 50\n")
    result = CliRunner().invoke(app, ["config", "check", str(file)], env={"D_ENGINE__NODE__ID": "7"})
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert "50" in lines["raft.heartbeat_ms"]
    assert str(file) in lines["raft.heartbeat_ms"]
    assert "D_ENGINE__NODE__ID" in lines["node.id"]
    assert "default" in lines["raft.election_min_ms"]
    rows = json.loads(run("config", "check", str(file), "-o", "json").output)
    assert {"key", "value", "source"} == set(rows[0])


def test_a_misspelt_key_suggests_the_right_one(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("[raft]\nheartbeet_ms = 50\n")
    result = run("config", "check", str(file))
    assert result.exit_code == EXIT_LOCAL
    assert "heartbeat_ms" in result.stderr


def test_serve_refuses_a_bad_configuration_before_it_touches_anything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    result = run("serve", "--data-dir", str(data), "--listen", "0.0.0.0:7000")
    assert result.exit_code == EXIT_LOCAL
    assert "insecure" in result.stderr
    result = run("serve", "--data-dir", str(data), "--set", "cluster.listen")
    assert result.exit_code == 2
    result = run("serve", "--data-dir", str(data))
    assert result.exit_code == EXIT_LOCAL
    assert "cluster.listen" in result.stderr
    assert not data.exists()


def test_status_tells_what_is_kept_for_clients() -> None:
    numbers = {
        "leases": 1200,
        "lease_next_end_seconds": 2.345,
        "watches": 3,
        "watches_behind": 1,
        "history_oldest_revision": 17,
        "history_seconds": 62.4,
        "history_bytes": 67_000_000,
        "pinned_views": 2,
    }
    assert kept_for_clients(numbers) == {
        "leases": "1,200, the first ends in 2.3 s",
        "watches": "3, 1 behind",
        "history": "behind revision 17, 62 s, 67,000,000 bytes",
        "pinned views": "2",
    }
    calm = {**numbers, "leases": 0, "watches_behind": 0, "pinned_views": 0}
    assert kept_for_clients(calm) == {
        "leases": "0",
        "watches": "3",
        "history": "behind revision 17, 62 s, 67,000,000 bytes",
    }
    assert kept_for_clients({}) == {}


def test_status_tells_how_far_a_snapshot_is() -> None:
    under_way = {"snapshot_bytes_received": 1_500_000, "snapshot_bytes_to_receive": 6_000_000}
    assert snapshot_words(under_way) == "receiving, 1,500,000 of 6,000,000 bytes (25 %)"
    assert snapshot_words({"snapshot_bytes_to_receive": 0, "snapshot_installing": 1}) == "installing"
    assert snapshot_words({"snapshot_installing": 0}) == ""


def test_bytes_in_json_are_text_where_they_can_be() -> None:
    assert text_of("grüß".encode()) == {"text": "grüß"}
    assert text_of(b"\xff") == {"base64": "/w=="}
