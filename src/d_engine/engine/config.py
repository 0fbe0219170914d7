"""Configuration: what can be set about a node, checked as a whole.

    config = load_config("node.toml", overrides={"node.id": 2})
    config = EngineConfig.single_node("/var/lib/app")

`load_config` takes defaults, then the file, then environment variables `D_ENGINE__SECTION__FIELD`, then `overrides`;
the later one wins. An `EngineConfig` that exists is valid, however it was made: `dataclasses.replace` checks again.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from d_engine.engine import config_rules
from d_engine.engine.config_fields import MemberConfig
from d_engine.engine.config_sections import (
    FIELDS,
    SECTIONS,
    ClientConfig,
    ClusterConfig,
    LimitsConfig,
    LogConfig,
    NodeConfig,
    RaftConfig,
    StorageConfig,
    read_field,
)
from d_engine.engine.config_sources import DEFAULT, Setting, read_sources
from d_engine.format.errors import ConfigError

__all__ = [
    "ClientConfig",
    "ClusterConfig",
    "EngineConfig",
    "LimitsConfig",
    "LogConfig",
    "MemberConfig",
    "NodeConfig",
    "RaftConfig",
    "StorageConfig",
    "explain",
    "load_config",
]


class _BrokenRuleError(ConfigError):
    """Two fields do not fit together. `load_config` adds where their values came from."""

    def __init__(self, text: str, keys: tuple[str, ...]) -> None:
        super().__init__(text)
        self.keys = keys


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything that can be set. Raises `ConfigError` when made of what does not hold or does not fit together.

    Example::

        config = EngineConfig.single_node("./data")
        slower = dataclasses.replace(config.raft, election_min_ms=1000, election_max_ms=2000)
        async with EmbeddedEngine(config=dataclasses.replace(config, raft=slower)) as engine:
            print(engine.node.config.raft)
    """

    node: NodeConfig = field(default_factory=NodeConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    raft: RaftConfig = field(default_factory=RaftConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    client: ClientConfig = field(default_factory=ClientConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        for section, record in SECTIONS.items():
            given = getattr(self, section)
            if not isinstance(given, record):
                raise ConfigError(f"{section} is {given!r}; it must be a {record.__name__}")
            values = {
                item.name: read_field(f"{section}.{item.name}", getattr(given, item.name), "in code", False)
                for item in fields(record)
            }
            # Lists have become tuples, texts of members have been read.
            object.__setattr__(self, section, record(**values))
        problem = config_rules.find_problem(self.node, self.cluster, self.raft, self.limits)
        if problem is not None:
            raise _BrokenRuleError(problem[1], problem[0])

    @classmethod
    def single_node(cls, data_dir: "str | os.PathLike[str]") -> "EngineConfig":
        """A cluster of one that listens nowhere."""
        return cls(node=NodeConfig(data_dir=os.fspath(data_dir)))

    @property
    def own_address(self) -> str:
        """The address by which other members know this node; empty if there can be none."""
        cluster = self.cluster
        return cluster.advertise or config_rules.address_in_initial(self.node, cluster) or cluster.listen


def load_config(
    path: "str | os.PathLike[str] | None" = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> EngineConfig:
    """Read and check. `environ` is the process's environment unless given; `overrides` maps `section.field` to values,
    which may be text. Raises `ConfigError`, whose text names the key, the value, and where it came from.

    Example::

        config = load_config("node1.toml", overrides={"log.level": "debug"})
        assert config.node.id == 1
    """
    return _build(_settings(path, environ, overrides))


def explain(
    path: "str | os.PathLike[str] | None" = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> list[tuple[str, object, str]]:
    """`(section.field, value, source)` of every key, in a fixed order. Raises like `load_config`."""
    settings = _settings(path, environ, overrides)
    config = _build(settings)
    return [(key, _value(config, key), _source(settings, key)) for key in FIELDS]


def _settings(
    path: "str | os.PathLike[str] | None",
    environ: Mapping[str, str] | None,
    overrides: Mapping[str, object] | None,
) -> dict[str, Setting]:
    return read_sources(path, os.environ if environ is None else environ, overrides or {})


def _build(settings: Mapping[str, Setting]) -> EngineConfig:
    given: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, setting in settings.items():
        section, _, name = key.partition(".")
        given[section][name] = setting.value
    try:
        return EngineConfig(**{section: record(**given[section]) for section, record in SECTIONS.items()})
    except _BrokenRuleError as error:
        origins = "; ".join(f"{key}: {_source(settings, key)}" for key in error.keys)
        raise ConfigError(f"{error} ({origins})") from None


def _source(settings: Mapping[str, Setting], key: str) -> str:
    return settings[key].source if key in settings else DEFAULT


def _value(config: EngineConfig, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
