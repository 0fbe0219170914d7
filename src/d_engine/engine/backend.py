"""What a node does for clients, embedded or remote: the same for both, on the engine's thread.

Every method either calls `done` once, now or later, or raises a `DEngineError` and never calls it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from d_engine.client.api import SnapshotInfo
from d_engine.engine.config_sections import LimitsConfig
from d_engine.engine.status import leader_of, members_of, status_of
from d_engine.engine.views import PinnedViews
from d_engine.format.configuration import Member
from d_engine.format.errors import DEngineError, InvalidRequestError
from d_engine.format.ids import MAX_NODE_ID, MAX_U63, Nanoseconds
from d_engine.format.limits import MAX_MEMBERS
from d_engine.format.messages import MemberChange
from d_engine.kv.machine import KvStateMachine
from d_engine.replica.changer import TRANSFER
from d_engine.replica.metrics import metrics_of
from d_engine.replica.outcome import GroupDone, ReadDone
from d_engine.replica.replica import Replica
from d_engine.storage.snapshot_format import SnapshotHeader

DocumentDone: TypeAlias = Callable[[bytes, DEngineError | None], None]
"""Gets a JSON document, or an error."""


_Id: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_NODE_ID)]


class _Successor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of "transfer"."""

    to: _Id


class _Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    id: _Id
    address: str = ""
    read_only: bool = False
    incarnation: Annotated[int, msgspec.Meta(ge=0, le=MAX_U63)] = 0


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of "change"."""

    changes: Annotated[tuple[_Change, ...], msgspec.Meta(min_length=1, max_length=2 * MAX_MEMBERS)]
    force: bool = False


_SUCCESSOR = msgspec.json.Decoder(_Successor)
_STEP = msgspec.json.Decoder(_Step)
_Arguments = TypeVar("_Arguments")


QUESTIONS = frozenset(("status", "members", "leader"))
"""Operations that change nothing."""


class NodeBackend:
    """One node's answers."""

    def __init__(self, replica: Replica, random_bits: Callable[[int], int], limits: LimitsConfig) -> None:
        self._replica = replica
        self._views: PinnedViews | None = None
        machine = replica.applier.state_machine
        self.propose: Callable[[bytes, Nanoseconds, GroupDone], None] = replica.propose
        self.open_session: Callable[[Nanoseconds, GroupDone], None] = replica.open_session
        self.read: Callable[[int, int, Nanoseconds, int, ReadDone], None] = replica.read
        self.query: Callable[[bytes], bytes] = machine.query
        if isinstance(machine, KvStateMachine):
            self._views = PinnedViews(machine, random_bits, limits.max_pinned_views, limits.pinned_view_s)
            self.query = self._views.query
        self.watches = replica.executor.watches

    def metrics(self) -> dict[str, int | float]:
        """What the replica counts, and what is kept here for clients."""
        pinned = 0 if self._views is None else len(self._views)
        return {**metrics_of(self._replica), "pinned_views": pinned}

    def manage(self, operation: str, arguments: bytes, timeout: Nanoseconds, done: DocumentDone) -> None:
        """Everything rare."""
        if operation == "status":
            done(msgspec.json.encode(status_of(self._replica, self.metrics())), None)
        elif operation == "members":
            done(msgspec.json.encode(members_of(self._replica)), None)
        elif operation == "leader":
            done(msgspec.json.encode(leader_of(self._replica)), None)
        elif operation == "snapshot":
            self._replica.snapshot(partial(_snapshot_taken, done))
        elif operation == TRANSFER:
            member = Member(_decode(_SUCCESSOR, arguments).to)
            self._change((MemberChange(TRANSFER, member),), False, timeout, done)
        elif operation == "change":
            step = _decode(_STEP, arguments)
            changes = [
                MemberChange(
                    change.kind, Member(change.id, change.address, change.incarnation), change.read_only
                )
                for change in step.changes
            ]
            self._change(changes, step.force, timeout, done)
        else:
            raise InvalidRequestError(f"there is no operation {operation!r}")

    def _change(
        self, changes: Sequence[MemberChange], force: bool, timeout: Nanoseconds, done: DocumentDone
    ) -> None:
        self._replica.change(changes, force, timeout, lambda error: done(b"null", error))


def _snapshot_taken(done: DocumentDone, header: SnapshotHeader | None, error: DEngineError | None) -> None:
    taken = None if header is None else SnapshotInfo(header.index, header.term, header.size)
    done(msgspec.json.encode(taken), error)


def _decode(decoder: "msgspec.json.Decoder[_Arguments]", arguments: bytes) -> _Arguments:
    try:
        return decoder.decode(arguments)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"the arguments do not fit: {error}") from None
