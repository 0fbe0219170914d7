"""The one interface through which applications use the engine, in the same process or over the network.

`d_engine.engine.EmbeddedEngine.client()` and `d_engine.connect()` both give a `Client`; code written against it does
not know which one it has. The names are those of the field (etcd, Consul): revisions, leases, compare-and-swap.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct, field

from d_engine.client.feed import WatchBatch
from d_engine.client.lease import Lease
from d_engine.client.leases_api import LeaseInfo, LeaseList, LeasesApi
from d_engine.client.many_keys_api import ManyKeysApi
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
from d_engine.client.views_api import PinnedView, ViewsApi
from d_engine.client.watch import StateWatch, Watch
from d_engine.client.watch_api import WatchApi
from d_engine.format.ids import Incarnation, NodeId, Term
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


class MemberInfo(Struct, frozen=True):
    """One member. `role` is "voter", "learner", or "outgoing": a voter that is about to leave.

    Example::

        members = await client.members()
        voters = [member.id for member in members if member.role == "voter"]
        print(len(voters) // 2 + 1, "of", voters, "decide")
    """

    id: NodeId
    address: str
    role: Literal["voter", "learner", "outgoing"]
    read_only: bool = False


class LeaderInfo(Struct, frozen=True):
    """Who leads, as far as the node that was asked knows. There is at most one leader in a term, for all time.

    Example::

        known = await client.leader()
        if known is not None:
            print(f"node {known.leader_id}, in term {known.term}")
    """

    leader_id: NodeId
    term: Term


class SnapshotInfo(Struct, frozen=True):
    """A snapshot: everything up to a place in the log, as a file of so many bytes.

    Example::

        taken = await client.take_snapshot()
        print(f"{taken.size_bytes} bytes, up to entry {taken.index} of term {taken.term}")
    """

    index: int
    term: Term
    size_bytes: int


class PeerStatus(Struct, frozen=True):
    """How far another member's log is, as far as the leader knows: it matches up to `match_index` and lacks `lag`
    entries. `state` is how it is being sent to; `promotion` says of a learner why it is no voter yet."""

    node_id: NodeId
    match_index: int
    lag: int
    state: str
    promotion: str = ""
    quarantined: bool = False


class MemberChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to become of a member. "add_learner" takes `address` and, if wanted, `read_only` and `incarnation`,
    "set_address" takes `address`, the others nothing but `id`.

    Example::

        wanted = [MemberChange("remove", 3), MemberChange("promote", 4)]
        await client.change_members(wanted)
    """

    kind: Literal["add_learner", "remove", "promote", "demote", "set_address"]
    id: NodeId
    address: str = ""
    read_only: bool = False
    incarnation: Incarnation = 0


class Status(Struct, frozen=True):
    """How the node that was asked is doing. Indexes count log entries, revisions count changes of the store. `role` is
    "leader", "follower", "pre_candidate", "candidate" or "learner"; `leader_ready`: it leads and serves. `alarm` is
    not empty if somebody has to look at the data of the members. `peers` is what a leader knows of the others,
    `metrics` whatever the node counts.

    Example::

        status = await client.status()
        for peer in status.peers:
            print(f"node {peer.node_id} lacks {peer.lag} entries")
        print(status.metrics["watches"], "watches,", status.metrics["history_seconds"], "s of history")
    """

    node_id: NodeId
    cluster_id: int
    version: str
    role: str
    term: Term
    leader_id: NodeId
    commit_index: int
    applied_index: int
    first_index: int
    last_index: int
    revision: int
    leader_ready: bool = False
    disk_full: bool = False
    alarm: str = ""
    quarantine: str = ""
    peers: tuple[PeerStatus, ...] = ()
    metrics: dict[str, int | float] = field(default_factory=dict)


class Client(ManyKeysApi, LeasesApi, ViewsApi, WatchApi):
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

    # --- reading -------------------------------------------------------------------------------------------------

    @abstractmethod
    async def get(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> bytes | None:
        """The value under `key`, None if there is none.

        `consistency` (Raft dissertation, section 6.4):

        * "linearizable": sees every write that was acknowledged anywhere before the call.
        * "lease": the same, as long as the clocks of the members run at nearly the same pace. Without a round trip on
          a leader; served as linearizable unless the cluster's configuration allows it.
        * "eventual": what the node that is asked has applied; may be old.

        `min_revision` (at least 1) waits until the node has reached that revision, for example one that another
        client got from a write.

        Example::

            written = await client.put("greeting", "hello")
            assert await client.get("greeting") == b"hello"
            assert await client.get("greeting", consistency="eventual", min_revision=written.revision) == b"hello"
            assert await client.get("nobody wrote this") is None
        """

    @abstractmethod
    async def get_entry(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> KeyValue | None:
        """The value under `key` with `create_revision`, `mod_revision`, `version` and `lease`. Otherwise as `get`.

        Example::

            written = await client.put("greeting", "hello")
            entry = await client.get_entry("greeting")
            assert (entry.value, entry.mod_revision) == (b"hello", written.revision)
        """

    @abstractmethod
    async def get_multi(
        self,
        keys: Sequence[Text],
        *,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> list[bytes | None]:
        """The values of several keys at one moment, in the order of `keys`, None where there is none. Together they
        must not exceed 8 MiB. Otherwise as `get`.

        Example::

            await client.put("host", "10.0.0.1")
            assert await client.get_multi(["host", "port"]) == [b"10.0.0.1", None]
        """

    @abstractmethod
    async def scan_prefix(
        self,
        prefix: Text,
        *,
        limit: int | None = None,
        after: Text | None = None,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> Scan:
        """All entries whose keys begin with `prefix` (b"": all), by rising key, at one moment: `Scan.items`, and the
        `Scan.revision` of that moment. Otherwise as `get`.

        Without `limit` the answer is complete; more than 8 MiB of it raise `InvalidRequestError`. With `limit`
        (at least 1), or where 8 MiB are reached, `Scan.more` says that there is more: ask again `after` the last key
        that came. Each page is of a moment of its own.

        Example::

            await client.put("service/web/1", "10.0.0.1:80")
            found = await client.scan_prefix("service/")
            print(found.revision, [(entry.key, entry.value) for entry in found.items])
        """

    # --- writing -------------------------------------------------------------------------------------------------

    @abstractmethod
    async def put(
        self,
        key: Text,
        value: Text,
        *,
        lease: Lease | int | None = None,
        ttl: float | None = None,
        keep_lease: bool = False,
        previous: bool = False,
        timeout: float | None = None,
    ) -> WriteResult:
        """Set `key` to `value`. It stays until it is deleted; with `lease`, until that lease ends; with `ttl` (seconds,
        0.01 or more), for so long; with `keep_lease`, as long as it would have stayed. (So a plain put over a key that
        had a TTL makes it stay.) Raises `LeaseNotFoundError` or `LeaseLimitError`; nothing was written then.

        With `previous`, the result holds the entry that was replaced; such writes travel in smaller groups, because
        their results may be large.

        Example::

            written = await client.put("greeting", "hello")
            print("visible from revision", written.revision, "on")
            await client.put("session/anna", "token", ttl=2.5)
            async with client.lease(10) as lease:
                await client.put("service/web/1", "10.0.0.1:80", lease=lease)
            replaced = await client.put("greeting", "good bye", previous=True)
            assert replaced.previous.value == b"hello"
        """

    @abstractmethod
    async def delete(
        self, key: Text, *, previous: bool = False, timeout: float | None = None
    ) -> DeleteResult:
        """Remove `key`. `DeleteResult.deleted` is false if it did not exist. `previous` as with `put`.

        Example::

            await client.put("greeting", "hello")
            assert (await client.delete("greeting")).deleted
            assert not (await client.delete("greeting")).deleted
        """

    @abstractmethod
    async def compare_and_swap(
        self,
        key: Text,
        expected: Text | None,
        value: Text,
        *,
        lease: Lease | int | None = None,
        ttl: float | None = None,
        keep_lease: bool = False,
        timeout: float | None = None,
    ) -> bool:
        """Set `key` to `value` if it holds `expected` at that moment; `expected=None`: if it does not exist. Returns
        whether it did. False is an answer, not an error. `lease`, `ttl` and `keep_lease` as with `put`.

        Example::

            assert await client.compare_and_swap("leader", None, "me")
            assert not await client.compare_and_swap("leader", None, "somebody else")
            assert await client.compare_and_swap("leader", "me", "you")
        """

    # --- the cluster ---------------------------------------------------------------------------------------------

    @abstractmethod
    async def members(self, *, timeout: float | None = None) -> list[MemberInfo]:
        """The members, by rising id, as the node that is asked knows them.

        Example::

            for member in await client.members():
                print(member.id, member.role, member.address)
        """

    @abstractmethod
    async def leader(self, *, timeout: float | None = None) -> LeaderInfo | None:
        """The leader that the node which is asked knows, None if it knows none now.

        Example::

            leader = await client.leader()
            print("nobody leads" if leader is None else f"node {leader.leader_id} leads in term {leader.term}")
        """

    @abstractmethod
    async def status(self, *, timeout: float | None = None) -> Status:
        """How the node that is asked is doing.

        Example::

            status = await client.status()
            print(status.role, status.revision, status.alarm or "no alarm")
        """

    @abstractmethod
    async def take_snapshot(self, *, timeout: float | None = None) -> SnapshotInfo:
        """Let the node that is asked take a snapshot of what it has applied, and wait until it is on stable storage.
        Nodes take them by themselves; this is for before an upgrade or a copy of the directory. Raises `SnapshotError`
        where there is nothing to take yet, `DiskFullError`, and `OutcomeUnknownError` if it takes longer than
        `timeout`: it goes on then.

        Example::

            taken = await client.take_snapshot(timeout=600)
            print(taken.size_bytes, "bytes")
        """

    @abstractmethod
    async def transfer(self, to: NodeId, *, timeout: float | None = None) -> None:
        """Make the voter `to` the leader. Returns when it was told to campaign or has taken over. Raises
        `MembershipError` if it leads already, is not a voter or does not catch up within an election time-out.

        Example::

            await client.transfer(2)
        """

    @abstractmethod
    async def change_members(
        self, changes: Sequence[MemberChange], *, force: bool = False, timeout: float | None = None
    ) -> None:
        """Change the members, by all of these in one step (joint consensus; Raft dissertation, 4.3).

        Returns when the cluster has carried it out. Raises `MembershipError` if it is refused: because it makes no
        sense, or because it is unwise (voters that have not caught up or do not answer, an even number of them).
        `force` overrides the latter. Raises `ChangePendingError`, which says what is pending, while another change is
        under way, and `OutcomeUnknownError` if no answer came: then `members` tells.

        The methods below are this one, for one purpose each.

        Example::

            await client.change_members([MemberChange("remove", 3), MemberChange("promote", 4)])
        """

    @abstractmethod
    async def add_learner(
        self,
        node_id: NodeId,
        address: str,
        *,
        read_only: bool = False,
        incarnation: Incarnation = 0,
        timeout: float | None = None,
    ) -> None:
        """Make the node at `address` a member that receives the log and decides nothing. Once it has caught up, the
        leader makes it a voter by itself if that makes the number of voters odd; never if it is `read_only`.
        `incarnation` binds it to one data directory (0: to the first that comes). Doing it again changes nothing.

        Example::

            await client.add_learner(5, "10.0.0.5:7000")
        """

    @abstractmethod
    async def promote(self, *node_ids: NodeId, force: bool = False, timeout: float | None = None) -> None:
        """Make learners voters, in one step.

        Example::

            await client.promote(4, force=True)  # an even number of voters is unwise
        """

    @abstractmethod
    async def demote(self, *node_ids: NodeId, force: bool = False, timeout: float | None = None) -> None:
        """Make voters learners, in one step. They stay learners until `promote`.

        Example::

            await client.demote(3, force=True)
        """

    @abstractmethod
    async def remove(self, *node_ids: NodeId, force: bool = False, timeout: float | None = None) -> None:
        """Remove members for good, in one step. They stop, and cannot come back with the same data directories.

        Example::

            await client.remove(4)
        """

    @abstractmethod
    async def replace(
        self,
        old: NodeId,
        new: NodeId,
        address: str = "",
        *,
        force: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Put a voter in the place of another member, in one step. `new` is a learner that has caught up or, if `old`
        does not answer any more, a node that is still to be started, at `address`.

        Example::

            await client.replace(3, 4)
        """

    @abstractmethod
    async def set_address(self, node_id: NodeId, address: str, *, timeout: float | None = None) -> None:
        """A member is found at another address from now on.

        Example::

            await client.set_address(4, "10.0.1.4:7000")
        """
