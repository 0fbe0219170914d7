"""d-engine: a strongly consistent key-value store over Raft, inside your process or as a service."""

from d_engine import _interpreter as _interpreter
from d_engine.client.api import (
    Client,
    Compare,
    Count,
    Delete,
    DeleteRange,
    DeleteRangeResult,
    DeleteResult,
    Event,
    Get,
    GetRange,
    KeyValue,
    LeaderInfo,
    Lease,
    LeaseInfo,
    LeaseList,
    MemberChange,
    MemberInfo,
    PinnedView,
    Put,
    RangePager,
    Scan,
    SnapshotInfo,
    StateWatch,
    Status,
    TxnResult,
    Watch,
    WatchBatch,
    WriteResult,
)
from d_engine.client.remote import connect
from d_engine.engine.builder import NodeBuilder
from d_engine.engine.config import EngineConfig, load_config
from d_engine.engine.embedded import EmbeddedEngine
from d_engine.engine.node import Node
from d_engine.engine.standalone import StandaloneEngine
from d_engine.format.errors import DEngineError
from d_engine.format.version import __version__

__all__ = [
    "Client",
    "Compare",
    "Count",
    "DEngineError",
    "Delete",
    "DeleteRange",
    "DeleteRangeResult",
    "DeleteResult",
    "EmbeddedEngine",
    "EngineConfig",
    "Event",
    "Get",
    "GetRange",
    "KeyValue",
    "LeaderInfo",
    "Lease",
    "LeaseInfo",
    "LeaseList",
    "MemberChange",
    "MemberInfo",
    "Node",
    "NodeBuilder",
    "PinnedView",
    "Put",
    "RangePager",
    "Scan",
    "SnapshotInfo",
    "StandaloneEngine",
    "StateWatch",
    "Status",
    "TxnResult",
    "Watch",
    "WatchBatch",
    "WriteResult",
    "__version__",
    "connect",
    "load_config",
]
