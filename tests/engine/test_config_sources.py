"""Files, environment and arguments: which one wins, and what is said when something is wrong in one of them."""

from pathlib import Path

import pytest

from d_engine.engine.config import MemberConfig, explain, load_config
from d_engine.engine.config_sections import FIELDS
from d_engine.format.errors import ConfigError

EVERYTHING = """
[node]
id = 2
data_dir = "/var/lib/node"

[cluster]
listen = "127.0.0.1:7002"
client_listen = "unix:/run/d-engine.sock"
advertise = "127.0.0.1:7002"
lease_reads = true
read_only = false
auto_promote = false
insecure_listen = false
initial = [
    { id = 1, address = "127.0.0.1:7001" },
    { id = 2, address = "127.0.0.1:7002" },
]

[raft]
heartbeat_ms = 50
election_min_ms = 200
election_max_ms = 400

[limits]
max_key_bytes = 100
max_value_bytes = 1000
max_pending_writes = 1
max_pending_reads = 2
watch_history_bytes = 1000
max_watches = 3
max_watches_per_client = 2
max_pinned_views = 1
pinned_view_s = 2.5

[storage]
engine = "memory"
segment_bytes = 1_048_576
log_cache_bytes = 0
repair = false
marker_interval_s = 30.0
snapshot_bytes_per_second = 1_000_000

[client]
request_timeout_s = 1
connect_timeout_s = 0.5

[log]
level = "error"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(EVERYTHING)
    return path


def refused(path: Path | None = None, environ: dict[str, str] | None = None, **overrides: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ or {}, {key.replace("__", "."): value for key, value in overrides.items()})
    return str(caught.value)


def test_file_sets_every_key(file: Path) -> None:
    source = f"file {file}"
    rows = explain(file, environ={}, overrides={"cluster.join": ""})
    assert {key for key, _, where in rows if where != source} == {"cluster.join"}
    config = load_config(file, environ={})
    assert config.cluster.initial == (MemberConfig(1, "127.0.0.1:7001"), MemberConfig(2, "127.0.0.1:7002"))
    assert config.client.request_timeout_s == 1.0
    assert config.limits.max_pending_reads == 2


def test_later_source_wins_key_by_key(file: Path) -> None:
    environ = {
        "D_ENGINE__NODE__ID": "1",
        "D_ENGINE__RAFT__HEARTBEAT_MS": "60",
        "D_ENGINE_OTHER": "x",
        "PATH": "/",
    }
    overrides = {"raft.heartbeat_ms": "40", "cluster.advertise": "127.0.0.1:7001"}
    rows = {key: (value, source) for key, value, source in explain(file, environ, overrides)}
    assert rows["raft.heartbeat_ms"] == (40, "argument")
    assert rows["node.id"] == (1, "environment variable D_ENGINE__NODE__ID")
    assert rows["raft.election_min_ms"] == (200, f"file {file}")
    config = load_config(file, environ, overrides)
    assert (config.raft.heartbeat_ms, config.node.id, config.raft.election_min_ms) == (40, 1, 200)


def test_explanation_of_nothing_is_all_defaults_in_order() -> None:
    rows = explain(environ={})
    assert [key for key, _, _ in rows] == list(FIELDS)
    assert {source for _, _, source in rows} == {"default"}


def test_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D_ENGINE__LOG__LEVEL", "warning")
    assert load_config().log.level == "warning"
    assert load_config(environ={}).log.level == "info"


@pytest.mark.parametrize("source", ["environ", "overrides"])
def test_text_is_parsed(source: str) -> None:
    texts = {
        "node.id": "7",
        "cluster.listen": "127.0.0.1:1",
        "cluster.initial": "7=127.0.0.1:1, 8=[::1]:2,",
        "cluster.lease_reads": "True",
        "client.request_timeout_s": "2.5",
    }
    if source == "environ":
        names = {"D_ENGINE__" + key.replace(".", "__").upper(): text for key, text in texts.items()}
        config = load_config(environ=names)
    else:
        config = load_config(environ={}, overrides=texts)
    assert config.node.id == 7
    assert config.cluster.initial == (MemberConfig(7, "127.0.0.1:1"), MemberConfig(8, "[::1]:2"))
    assert (config.cluster.lease_reads, config.client.request_timeout_s) == (True, 2.5)


def test_numbers_in_a_file_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[node]\nid = "7"\n')
    assert refused(path) == (f"node.id is '7' (file {path}); allowed is a whole number from 1 to 4294967295")


def test_wrong_value_in_the_environment_names_the_variable() -> None:
    text = refused(environ={"D_ENGINE__RAFT__HEARTBEAT_MS": "fast"})
    assert text == (
        "raft.heartbeat_ms is 'fast' (environment variable D_ENGINE__RAFT__HEARTBEAT_MS);"
        " allowed is a whole number from 1 to 3600000"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[raft]\nheartbeat = 5", "no configuration key raft.heartbeat .*; did you mean raft.heartbeat_ms?"),
        ("[rafts]\nheartbeat_ms = 5", "no configuration section .rafts. .*; did you mean raft?"),
        ("[cluster]\ndata_dir = 'x'", "did you mean node.data_dir?"),
        ("data_dir = 'x'", "did you mean node.data_dir?"),
        ("[raft]\nzzz = 5", "; .raft. has heartbeat_ms, election_min_ms, election_max_ms"),
        ("[zzz]\nzzz = 5", "; there are node, cluster, raft, limits, storage, client, log"),
        ("node = 5", "node is 5 .*; it must be a section with keys: .node."),
        ("[node]\nid = {a = 1}", "node.id is {'a': 1}"),
        ("[node\n", "is no TOML"),
    ],
)
def test_wrong_file(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=text):
        load_config(path, environ={})
    assert f"file {path}" in refused(path)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "is no TOML" in refused(binary)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("D_ENGINE__RAFT__HEARTBEAT", "key raft.heartbeat "),
        ("D_ENGINE__NODE", "key node "),
        ("D_ENGINE__", "key  "),
        ("D_ENGINE__NODE__ID__X", "key node.id__x "),
    ],
)
def test_unknown_variable_is_an_error(name: str, text: str) -> None:
    assert f"{text}(environment variable {name})" in refused(environ={name: "1"})


def test_unknown_argument_is_an_error() -> None:
    assert refused(storage__engin="wal") == (
        "there is no configuration key storage.engin (argument); did you mean storage.engine?"
    )


def test_broken_rule_names_both_sources(file: Path) -> None:
    text = refused(file, {"D_ENGINE__RAFT__ELECTION_MAX_MS": "200"})
    assert text.endswith(
        "(raft.election_max_ms: environment variable D_ENGINE__RAFT__ELECTION_MAX_MS;"
        f" raft.election_min_ms: file {file})"
    )
