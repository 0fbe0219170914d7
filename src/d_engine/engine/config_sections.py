"""The sections of the configuration: every field, its default and its rule. What fits together is in `config_rules`."""

import dataclasses
from dataclasses import dataclass

from d_engine.engine.config_fields import (
    ADVERTISE,
    DIRECTORY,
    LISTEN,
    Addresses,
    Choice,
    Flag,
    Kind,
    MemberConfig,
    Members,
    Seconds,
    Whole,
    field,
    kind_of,
)
from d_engine.format.errors import ConfigError
from d_engine.format.ids import MAX_NODE_ID
from d_engine.format.limits import MAX_COMMAND_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES
from d_engine.kv.commands import HIGHEST_KEY_LIMIT
from d_engine.storage.segment import MAX_SEGMENT_BYTES

_MEBIBYTE = 1024 * 1024
_HOUR_MS = 3_600_000
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Who this node is, and where it keeps what it must not forget."""

    id: int = field(1, Whole(1, MAX_NODE_ID))
    data_dir: str = field("./data", DIRECTORY)


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Where this node listens and whom it belongs to.

    Without `initial` and `join` the node is a cluster of its own. `initial` names all members of a cluster that is to
    be born, this one among them; `join` names members of one that exists. `listen` is for members, and for clients
    too unless `client_listen` is given. `advertise` is the address by which the others reach this node; without it,
    it is the one that `initial` has for this node, or else `listen`. `read_only` makes a node that joins a learner for
    good; `auto_promote` lets this node, when it leads, make voters of all other learners (`members promote` does it by
    hand).
    """

    listen: str = field("", LISTEN)
    client_listen: str = field("", LISTEN)
    advertise: str = field("", ADVERTISE)
    initial: tuple[MemberConfig, ...] = field((), Members())
    join: tuple[str, ...] = field((), Addresses())
    insecure_listen: bool = field(False, Flag())
    lease_reads: bool = field(False, Flag())
    read_only: bool = field(False, Flag())
    auto_promote: bool = field(True, Flag())


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Timing of elections, in milliseconds."""

    heartbeat_ms: int = field(100, Whole(1, _HOUR_MS))
    election_min_ms: int = field(500, Whole(1, _HOUR_MS))
    election_max_ms: int = field(1000, Whole(1, _HOUR_MS))


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What is refused before it costs memory, on this node; members may differ. What all must agree on, like the number
    of leases, is no setting: a command that one of them refuses must be refused by all.

    Watches: at once on the node, and of one connection or one event loop; `watch_history_bytes` of past events are kept
    for those that begin in the past or are slow. A pinned view is kept for `pinned_view_s` at most.
    """

    max_key_bytes: int = field(MAX_KEY_BYTES, Whole(1, HIGHEST_KEY_LIMIT))
    max_value_bytes: int = field(MAX_VALUE_BYTES, Whole(1, MAX_COMMAND_BYTES))
    max_pending_writes: int = field(10_000, Whole(1, 10_000_000))
    max_pending_reads: int = field(50_000, Whole(1, 10_000_000))
    max_watches: int = field(20_000, Whole(1, 10_000_000))
    max_watches_per_client: int = field(10_000, Whole(1, 10_000_000))
    watch_history_bytes: int = field(64 * _MEBIBYTE, Whole(0, 64 * 1024 * _MEBIBYTE))
    max_pinned_views: int = field(4, Whole(0, 1000))
    pinned_view_s: float = field(60.0, Seconds(_DAY_S))


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """The log. The engine "memory" forgets everything when the process ends. Damaged data is repaired from other
    members unless `repair` is false: then the node refuses to start, or stops. Every `marker_interval_s` the members
    compare what they have applied; only the leader's setting counts. A snapshot is fetched from another member at no
    more than `snapshot_bytes_per_second`, 0 for as fast as it goes."""

    engine: str = field("wal", Choice(("wal", "memory")))
    segment_bytes: int = field(64 * _MEBIBYTE, Whole(_MEBIBYTE, MAX_SEGMENT_BYTES))
    log_cache_bytes: int = field(8 * _MEBIBYTE, Whole(0, 1024 * _MEBIBYTE))
    repair: bool = field(True, Flag())
    marker_interval_s: float = field(60.0, Seconds(_DAY_S))
    snapshot_bytes_per_second: int = field(0, Whole(0, 1024 * 1024 * _MEBIBYTE))


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How long calls wait, in seconds."""

    request_timeout_s: float = field(5.0, Seconds(_DAY_S))
    connect_timeout_s: float = field(2.0, Seconds(_DAY_S))


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The least severe messages that are reported."""

    level: str = field("info", Choice(("debug", "info", "warning", "error")))


SECTIONS: dict[str, type] = {
    "node": NodeConfig,
    "cluster": ClusterConfig,
    "raft": RaftConfig,
    "limits": LimitsConfig,
    "storage": StorageConfig,
    "client": ClientConfig,
    "log": LogConfig,
}

FIELDS: dict[str, Kind] = {
    f"{section}.{item.name}": kind_of(item)
    for section, record in SECTIONS.items()
    for item in dataclasses.fields(record)
}
"""Every key, as `section.field`, with its rule."""


def read_field(key: str, raw: object, source: str, is_text: bool) -> object:
    """The value, or a `ConfigError` that names key, value, source and what is allowed."""
    kind = FIELDS[key]
    try:
        return kind.read(raw, is_text)
    except ValueError as error:
        # Of a number that does not parse Python says nothing that `allowed` does not.
        detail = f" ({error})" if str(error) and not isinstance(kind, Whole | Seconds) else ""
        raise ConfigError(f"{key} is {raw!r} ({source}); allowed is {kind.allowed}{detail}") from None
