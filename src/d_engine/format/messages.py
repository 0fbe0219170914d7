"""What members of a cluster say to each other, and how it is encoded.

The first ten are the consensus core's own (`d_engine.raft`); `Forward` and what follows belong to the node around it
(`d_engine.replica`). Every message of the core carries its sender's term. An append's entries travel as they are on
disk, behind the encoded head, so that nothing is copied or encoded twice.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from d_engine.format.configuration import Configuration, Member, validate_configuration
from d_engine.format.entry import Entry
from d_engine.format.errors import MalformedError
from d_engine.format.ids import MAX_U63, LogIndex, Term
from d_engine.format.limits import MAX_BATCH_ITEMS, MAX_MEMBERS

_Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_U63)]


class VoteRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """Ask for a vote. `pre` asks only whether a vote would be given (dissertation, 9.6); its term is the one that the
    candidate would take. `transfer` says that the leader itself asked for this election (3.10)."""

    term: Term
    last_index: LogIndex
    last_term: Term
    pre: bool
    transfer: bool


class VoteResponse(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """The answer. A granted pre-vote carries the term asked for, everything else the voter's own term."""

    term: Term
    granted: bool
    pre: bool


class AppendRequest(Struct, frozen=True):
    """Entries that follow `(prev_index, prev_term)` (Raft, figure 2). Encoded as a head and the entries' own bytes."""

    term: Term
    prev_index: LogIndex
    prev_term: Term
    commit_index: LogIndex
    entries: tuple[Entry, ...] = ()


class AppendResponse(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """If `rejected_index` is 0: the log matches the leader's, durably, up to `match_index`. Otherwise the request with
    `prev_index == rejected_index` did not match; `(hint_index, hint_term)` is the last place that might."""

    term: Term
    match_index: LogIndex
    rejected_index: LogIndex = 0
    hint_index: LogIndex = 0
    hint_term: Term = 0


class Heartbeat(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """The leader lives. `round` names, with the term, the confirmation of leadership that an echo counts for;
    `log_time` lets a new leader continue from the time that this one had reached."""

    term: Term
    round: _Count
    commit_index: LogIndex
    log_time: _Count


class HeartbeatResponse(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """The echo. It needs only a durable term, so it never waits for a sync of the log. One in quarantine says so, and
    confirms no round (0); it may want a snapshot at or behind `wanted_index`."""

    term: Term
    round: _Count
    quarantined: bool = False
    wanted_index: LogIndex = 0


class ReadRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """A follower asks for a read index (dissertation, 6.4). The answer to `batch` covers all earlier ones."""

    term: Term
    batch: _Count


class ReadResponse(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """Reads up to `batch` may be answered from any state that has applied `read_index`; good in this term only."""

    term: Term
    batch: _Count
    read_index: LogIndex


class TimeoutNow(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=9):
    """Leadership transfer: campaign at once (dissertation, 3.10)."""

    term: Term


class SnapshotMeta(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a snapshot stands for: everything up to `(index, term)`, and the members in force there."""

    index: LogIndex
    term: Term
    configuration: Configuration


class InstallSnapshot(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=10):
    """The log that the follower needs is gone: take this snapshot. The bytes are fetched by the follower."""

    term: Term
    snapshot: SnapshotMeta


RaftMessage: TypeAlias = (
    VoteRequest
    | VoteResponse
    | AppendRequest
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | ReadRequest
    | ReadResponse
    | TimeoutNow
    | InstallSnapshot
)


class Forward(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=32):
    """Groups for the leader, verbatim. There is no answer: the sender learns the results when it applies the entry
    that holds them. A receiver that does not lead drops them (one hop at most); the sender tries again when it knows
    another leader, or after a while, and the session makes sure that they take effect once."""

    groups: Annotated[tuple[bytes, ...], Meta(max_length=MAX_BATCH_ITEMS)]


class MemberChange(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is to become of a member: `kind` is "add_learner", "remove", "promote", "demote", "set_address" or, for
    leadership, "transfer". Of `member`, only what the kind needs is looked at."""

    kind: str
    member: Member
    read_only: bool = False


class ChangeRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=33):
    """Ask the leader for a change of members, all of it in one step, or of leadership. `force` overrides the objections
    that are no matter of safety."""

    request: _Count
    changes: Annotated[tuple[MemberChange, ...], Meta(min_length=1, max_length=2 * MAX_MEMBERS)]
    force: bool = False


class ChangeResponse(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=34):
    """The answer: `code` is empty on success, else an error's code, with its text."""

    request: _Count
    code: str
    text: str


class SnapshotRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=35):
    """A follower that was offered the snapshot of `(index, snapshot_term)` asks for a part of its file."""

    index: LogIndex
    snapshot_term: Term
    offset: _Count
    length: _Count


class SnapshotChunk(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=36):
    """The part: whole chunks of the file, which carry their own checksums (`d_engine.storage.snapshot_format`), and
    which file they are of. `size` 0: the snapshot is not there (any more)."""

    index: LogIndex
    snapshot_term: Term
    offset: _Count
    size: _Count
    digest: bytes
    data: bytes


class DigestReport(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=37):
    """What the sender's digest of all that it has applied was at the marker that stands at `index`."""

    index: LogIndex
    digest: Annotated[bytes, Meta(min_length=16, max_length=16)]


NodeMessage: TypeAlias = (
    Forward | ChangeRequest | ChangeResponse | SnapshotRequest | SnapshotChunk | DigestReport
)
PeerMessage: TypeAlias = RaftMessage | NodeMessage


class _AppendHead(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    term: Term
    prev_index: LogIndex
    prev_term: Term
    commit_index: LogIndex
    count: Annotated[int, Meta(ge=0, le=1 << 20)]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: "msgspec.msgpack.Decoder[_Wire]"
_Wire: TypeAlias = (
    VoteRequest
    | VoteResponse
    | _AppendHead
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | ReadRequest
    | ReadResponse
    | TimeoutNow
    | InstallSnapshot
    | Forward
    | ChangeRequest
    | ChangeResponse
    | SnapshotRequest
    | SnapshotChunk
    | DigestReport
)
_DECODER = msgspec.msgpack.Decoder(_Wire)


def encode_message(message: PeerMessage) -> tuple[bytes, tuple[bytes, ...]]:
    """`(head, tail)`: the tail's parts carry their own checksums and are sent as they are."""
    if isinstance(message, AppendRequest):
        head = _AppendHead(
            message.term, message.prev_index, message.prev_term, message.commit_index, len(message.entries)
        )
        return _ENCODER.encode(head), tuple(entry.data for entry in message.entries)
    return _ENCODER.encode(message), ()


def decode_message(head: bytes | memoryview, tail: bytes | memoryview = b"") -> PeerMessage:
    """Read and validate one message. Raises `MalformedError`."""
    try:
        message = _DECODER.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a message does not decode: {error}") from None
    if isinstance(message, _AppendHead):
        return _decode_append(message, tail)
    if len(tail):
        raise MalformedError(f"a {type(message).__name__} has {len(tail)} bytes behind it")
    if isinstance(message, InstallSnapshot):
        validate_configuration(message.snapshot.configuration)
    return message


def _decode_append(head: _AppendHead, tail: bytes | memoryview) -> AppendRequest:
    entries = []
    offset = 0
    expected, term = head.prev_index + 1, head.prev_term
    for _ in range(head.count):
        entry = Entry.decode(tail, offset)
        if entry.index != expected or not term <= entry.term <= head.term:
            raise MalformedError(
                f"an append holds {entry!r} where index {expected}, term {term}..{head.term} belongs"
            )
        entries.append(entry)
        expected, term = expected + 1, entry.term
        offset += entry.size
    if offset != len(tail):
        raise MalformedError(f"an append's {head.count} entries end at {offset}, its tail at {len(tail)}")
    return AppendRequest(head.term, head.prev_index, head.prev_term, head.commit_index, tuple(entries))
