"""What nodes and clusters say of themselves, as clients are told: the JSON documents with which a node answers rare
operations (`d_engine.format.requests.Manage`)."""

from typing import Literal, TypeVar

import msgspec
from msgspec import Struct, field

from d_engine.format.errors import MalformedError
from d_engine.format.ids import Incarnation, NodeId, Term


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


_Document = TypeVar("_Document")
_MEMBERS = msgspec.json.Decoder(list[MemberInfo])
_STATUS = msgspec.json.Decoder(Status)
_SNAPSHOT = msgspec.json.Decoder(SnapshotInfo)
_LEADER: "msgspec.json.Decoder[LeaderInfo | None]" = msgspec.json.Decoder(LeaderInfo | None)


def decode_members(document: bytes) -> list[MemberInfo]:
    """The answer to "members". Raises `MalformedError`, like the others."""
    return _decode(_MEMBERS, document)


def decode_leader(document: bytes) -> LeaderInfo | None:
    """The answer to "leader": null while none is known."""
    return _decode(_LEADER, document)


def decode_status(document: bytes) -> Status:
    """The answer to "status"."""
    return _decode(_STATUS, document)


def decode_snapshot(document: bytes) -> SnapshotInfo:
    """The answer to "snapshot"."""
    return _decode(_SNAPSHOT, document)


def _decode(decoder: "msgspec.json.Decoder[_Document]", document: bytes) -> _Document:
    try:
        return decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a node's document does not decode: {error}") from None
