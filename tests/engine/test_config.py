"""Defaults, the rules across fields, and configurations made in code."""

import dataclasses
from pathlib import Path

import pytest

from d_engine.engine.config import (
    ClusterConfig,
    EngineConfig,
    LimitsConfig,
    LogConfig,
    MemberConfig,
    NodeConfig,
    RaftConfig,
    StorageConfig,
    load_config,
)
from d_engine.format.errors import ConfigError
from d_engine.raft.settings import RaftSettings
from d_engine.replica.settings import ReplicaSettings

TWO = "1=127.0.0.1:7001,2=127.0.0.1:7002"


def refused(**overrides: object) -> str:
    """The text with which these overrides, `section__field=value`, are refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(environ={}, overrides={key.replace("__", "."): value for key, value in overrides.items()})
    return str(caught.value)


def accepted(**overrides: object) -> EngineConfig:
    return load_config(
        environ={}, overrides={key.replace("__", "."): value for key, value in overrides.items()}
    )


def test_defaults() -> None:
    config = EngineConfig()
    assert config == load_config(environ={})
    assert (config.node.id, config.node.data_dir) == (1, "./data")
    assert config.raft == RaftConfig(100, 500, 1000)
    assert config.client.request_timeout_s == 5.0
    assert config.cluster == ClusterConfig(insecure_listen=False, lease_reads=False)
    assert config.limits == LimitsConfig(1024, 1024 * 1024, 10_000, 50_000)
    assert config.storage == StorageConfig("wal", 64 * 1024 * 1024, 8 * 1024 * 1024)
    assert config.own_address == ""


def test_defaults_are_those_of_the_parts_that_they_are_for() -> None:
    config = EngineConfig()
    replica = ReplicaSettings(node_id=1, incarnation=1)
    assert replica.heartbeat_ns == config.raft.heartbeat_ms * 1_000_000
    assert replica.election_min_ns == config.raft.election_min_ms * 1_000_000
    assert replica.election_max_ns == config.raft.election_max_ms * 1_000_000
    assert replica.max_pending_writes == config.limits.max_pending_writes


def test_shortest_allowed_election_is_allowed_by_the_core() -> None:
    config = accepted(raft__heartbeat_ms=100, raft__election_min_ms=300, raft__election_max_ms=301)
    RaftSettings(
        node_id=1,
        incarnation=1,
        heartbeat_ns=config.raft.heartbeat_ms * 1_000_000,
        election_min_ns=config.raft.election_min_ms * 1_000_000,
        election_max_ns=config.raft.election_max_ms * 1_000_000,
    ).validate()


def test_single_node_listens_nowhere(tmp_path: Path) -> None:
    config = EngineConfig.single_node(tmp_path)
    assert config.node.data_dir == str(tmp_path)
    assert (config.cluster.listen, config.cluster.initial, config.cluster.join) == ("", (), ())


def test_replaced_configuration_is_checked_again() -> None:
    config = EngineConfig()
    louder = dataclasses.replace(config, log=LogConfig("debug"))
    assert (louder.log.level, louder.node) == ("debug", config.node)
    with pytest.raises(ConfigError, match=r"log\.level is 'loud' \(in code\); allowed is one of \"debug\""):
        dataclasses.replace(config, log=LogConfig("loud"))


def test_configuration_made_in_code_is_put_into_shape() -> None:
    members = [{"id": 1, "address": "127.0.0.1:1"}, MemberConfig(2, "127.0.0.1:2")]
    cluster = ClusterConfig(listen="127.0.0.1:1", initial=members)  # type: ignore[arg-type]
    config = EngineConfig(cluster=cluster)
    assert config.cluster.initial == (MemberConfig(1, "127.0.0.1:1"), MemberConfig(2, "127.0.0.1:2"))
    assert hash(config) == hash(dataclasses.replace(config))


def test_section_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="node is None; it must be a NodeConfig"):
        EngineConfig(node=None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="node is RaftConfig"):
        EngineConfig(node=RaftConfig())  # type: ignore[arg-type]


def test_election_outlasts_three_heartbeats() -> None:
    text = refused(raft__heartbeat_ms=200)
    assert "raft.election_min_ms is 500, below 3 x raft.heartbeat_ms = 600" in text
    assert "because two heartbeats were late" in text
    assert text.endswith("(raft.election_min_ms: default; raft.heartbeat_ms: argument)")
    assert accepted(raft__heartbeat_ms=166).raft.heartbeat_ms == 166


def test_longest_election_is_longer_than_the_shortest() -> None:
    assert "not above raft.election_min_ms = 1000" in refused(raft__election_min_ms=1000)


def test_largest_comparison_fits_into_a_command() -> None:
    assert "a command at most 8388608" in refused(limits__max_value_bytes=4 * 1024 * 1024)
    assert accepted(limits__max_value_bytes=4 * 1024 * 1024 - 516).limits.max_value_bytes == 4193788
    assert "a whole number from 1 to 65535" in refused(limits__max_key_bytes=65536)


def test_founding_and_joining_exclude_each_other() -> None:
    text = refused(cluster__initial=TWO, cluster__join="127.0.0.1:1", cluster__listen="127.0.0.1:7001")
    assert "cluster.initial and cluster.join are both given" in text


def test_founding_members_include_this_one_and_are_distinct() -> None:
    listen = "127.0.0.1:7001"
    assert "node.id is 3, but cluster.initial has 1, 2 only" in refused(
        node__id=3, cluster__initial=TWO, cluster__listen=listen
    )
    for members, double in (("1=a:1,1=b:1", "id 1"), ("1=a:1,2=a:1", "address a:1")):
        assert f"has the {double} more than once" in refused(cluster__initial=members, cluster__listen=listen)
    too_many = ",".join(f"{number}=a:{number}" for number in range(1, 66))
    assert "65 members are more than 64" in refused(cluster__initial=too_many, cluster__listen=listen)


def test_own_address_is_told_once() -> None:
    config = accepted(cluster__initial=TWO, cluster__listen="127.0.0.1:9", node__id=2)
    assert config.own_address == "127.0.0.1:7002"
    text = refused(cluster__initial=TWO, cluster__listen="127.0.0.1:9", cluster__advertise="127.0.0.1:9")
    assert "cluster.advertise is '127.0.0.1:9', but cluster.initial has '127.0.0.1:7001'" in text
    assert accepted(cluster__join="127.0.0.1:1", cluster__listen="127.0.0.1:9").own_address == "127.0.0.1:9"


def test_node_with_peers_listens() -> None:
    assert "cluster.listen is empty" in refused(cluster__initial=TWO)
    assert "cluster.listen is empty" in refused(cluster__join="127.0.0.1:7001")
    assert accepted(cluster__initial="1=127.0.0.1:7001").cluster.listen == ""
    assert accepted(cluster__client_listen="127.0.0.1:1").cluster.client_listen == "127.0.0.1:1"


def test_addresses_for_members_and_clients_differ() -> None:
    assert "leave cluster.client_listen empty" in refused(
        cluster__listen="127.0.0.1:1", cluster__client_listen="127.0.0.1:1"
    )


@pytest.mark.parametrize("listen", ["0.0.0.0:7000", "[::]:7000", "127.0.0.1:0", "localhost:0"])
def test_joining_node_has_an_address_that_can_be_dialled(listen: str) -> None:
    settings = {
        "cluster__join": "127.0.0.1:1",
        "cluster__listen": listen,
        "cluster__insecure_listen": True,
    }
    assert "set cluster.advertise" in refused(**settings)
    assert accepted(**settings, cluster__advertise="10.0.0.1:7000").own_address == "10.0.0.1:7000"


@pytest.mark.parametrize("key", ["cluster__listen", "cluster__client_listen"])
@pytest.mark.parametrize("address", ["0.0.0.0:7000", "10.0.0.1:7000", "[::]:7000", "[fe80::1%eth0]:7000"])
def test_open_network_must_be_asked_for(key: str, address: str) -> None:
    assert "connections are not encrypted" in refused(**{key: address})
    assert accepted(**{key: address}, cluster__insecure_listen="true").cluster.insecure_listen


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.8.8:1", "[::1]:1", "localhost:1", "unix:/run/x"])
def test_this_machine_needs_no_permission(address: str) -> None:
    assert accepted(cluster__listen=address).cluster.listen == address


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("node__id", 0, "a whole number from 1 to 4294967295"),
        ("node__id", True, "a whole number"),
        ("node__id", "one", "a whole number"),
        ("node__id", 1.0, "a whole number"),
        ("node__data_dir", "", "the path of a directory"),
        ("node__data_dir", "a\0b", "the path of a directory"),
        ("node__data_dir", 5, "the path of a directory"),
        ("cluster__listen", "nowhere", "neither host:port nor unix:/path"),
        ("cluster__listen", "unix:relative", "absolute path"),
        ("cluster__listen", "a:70000", "neither host:port nor unix:/path"),
        ("cluster__advertise", "a:0", "nobody can reach port 0"),
        ("cluster__initial", "1:a:1", "is not of the form"),
        ("cluster__initial", "0=a:1", "the id of '0=a:1' is not a whole number from 1"),
        ("cluster__initial", [{"id": 1, "addres": "a:1"}], "is not an id and an address"),
        ("cluster__initial", [{"id": 1, "address": 5}], "5 is not a text"),
        ("cluster__initial", 5, "a list of {id, address} tables"),
        ("cluster__join", "a", "neither host:port nor unix:/path"),
        ("cluster__join", 5, "a list of addresses"),
        ("cluster__lease_reads", "perhaps", "true or false"),
        ("cluster__lease_reads", 1, "true or false"),
        ("storage__engine", "paper", 'one of "wal", "memory"'),
        ("storage__engine", None, 'one of "wal", "memory"'),
        ("client__request_timeout_s", 0, "a number of seconds above 0"),
        ("client__request_timeout_s", "nan", "a number of seconds above 0"),
        ("client__request_timeout_s", "inf", "a number of seconds above 0"),
        ("client__request_timeout_s", "soon", "a number of seconds above 0"),
        ("client__request_timeout_s", False, "a number of seconds above 0"),
    ],
)
def test_value_that_is_not_allowed(key: str, value: object, allowed: str) -> None:
    text = refused(**{key: value})
    assert text.startswith(f"{key.replace('__', '.')} is {value!r} (argument); allowed is ")
    assert allowed in text


def test_node_config_alone_is_not_checked_until_it_is_used() -> None:
    assert NodeConfig(id=0).id == 0
    with pytest.raises(ConfigError):
        EngineConfig(node=NodeConfig(id=0))
