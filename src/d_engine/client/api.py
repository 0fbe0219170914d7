"""The one interface through which applications use the engine, in the same process or over the network.

`d_engine.engine.EmbeddedEngine.client()` and `d_engine.connect()` both give a `Client`; code written against it does
not know which one it has. The names are those of the field (etcd, Consul): revisions, leases, compare-and-swap.
"""

from d_engine.client.cluster import Cluster
from d_engine.client.documents import LeaderInfo, MemberChange, MemberInfo, PeerStatus, SnapshotInfo, Status
from d_engine.client.feed import WatchBatch
from d_engine.client.lease import Lease
from d_engine.client.leases import LeaseInfo, LeaseList, Leases
from d_engine.client.operations import (
    Compare,
    Consistency,
    Delete,
    DeleteRange,
    Get,
    GetRange,
    Operation,
    OperationResult,
    Put,
    Relation,
    Text,
    TxnResult,
    Write,
    WriteOutcome,
    WriteResult,
)
from d_engine.client.pager import RangePager
from d_engine.client.single_keys import SingleKeys
from d_engine.client.views import PinnedView, Views
from d_engine.client.watch import StateWatch, Watch
from d_engine.client.watching import Watching
from d_engine.kv.events import Event
from d_engine.kv.key_value import KeyValue
from d_engine.kv.queries import Count, Scan
from d_engine.kv.results import DeleteRangeResult, DeleteResult

__all__ = [
    "Client",
    "Compare",
    "Consistency",
    "Count",
    "Delete",
    "DeleteRange",
    "DeleteRangeResult",
    "DeleteResult",
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
    "Operation",
    "OperationResult",
    "PeerStatus",
    "PinnedView",
    "Put",
    "RangePager",
    "Relation",
    "Scan",
    "SnapshotInfo",
    "StateWatch",
    "Status",
    "Text",
    "TxnResult",
    "Watch",
    "WatchBatch",
    "Write",
    "WriteOutcome",
    "WriteResult",
]


class Client(SingleKeys, Watching, Leases, Views, Cluster):
    """A strongly consistent key-value store.

    Every write is on the stable storage of a majority before it is acknowledged, and takes effect exactly once.
    `timeout` is in seconds (None: the client's usual time-out). A client belongs to the event loop on which it was
    made; its tasks share it, and what they ask for in one turn of the loop travels together.

    Every method may raise, besides what it says itself:

    * `InvalidRequestError`: a key or value beyond its limit, an argument out of range. Never sent.
    * `OverloadedError`: too much of this client waits, or of the node. Not applied.
    * `NoLeaderError`, `UnavailableError`, `NotAppliedTimeoutError`: no answer could be had in time. Not applied.
    * `EngineStoppedError`: the client or the engine was closed. Not applied.

    and, if it writes, `OutcomeUnknownError` (as time-out: `OutcomeUnknownTimeoutError`): the write left and its result
    cannot be learned; it may or may not be applied. A cancelled write is in the same position.

    Example::

        async with d_engine.connect("127.0.0.1:7000,127.0.0.1:7001") as client:
            written = await client.put("greeting", "hello")
            assert await client.get("greeting") == b"hello"
            await client.compare_and_swap("greeting", "hello", "good bye")
    """
