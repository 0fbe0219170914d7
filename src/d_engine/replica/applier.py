"""From committed entries to results: the one place where the log meets the state machine.

Each entry is decoded once per node, here. What an entry does depends on the entry and on the state that earlier
entries made, on nothing else: that is what keeps replicas equal.
"""

import struct
from collections.abc import Callable, Generator, Iterator, Sequence

from d_engine.format.entry import ENTRY_HEADER_BYTES, Entry, EntryKind
from d_engine.format.errors import (
    DEngineError,
    InvariantViolation,
    OutcomeUnknownError,
    SessionLostError,
    SnapshotError,
)
from d_engine.format.group import Group, decode_groups
from d_engine.format.ids import LogIndex, Nanoseconds
from d_engine.format.state_machine import (
    ApplyContext,
    GradualStateMachine,
    Replacement,
    StateMachine,
    at_once,
)
from d_engine.format.timed import decode_timed
from d_engine.replica.digest import DIGEST_BYTES, NOTHING, roll
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.session_codec import decode_sessions
from d_engine.replica.sessions import SessionTable, Stored, Verdict
from d_engine.replica.writes import GroupKey
from d_engine.storage.snapshot_format import Section
from d_engine.storage.snapshots import SnapshotFile

LOG_TIME = struct.Struct("<Q")
"""The section `LOG_TIME` of a snapshot."""

_OPENED = b"opened"
_REFUSALS = {
    Verdict.PASSED: "the group's number is at or below what its client has acknowledged",
    Verdict.CHANGED: "another group was applied under this number",
    Verdict.FULL: "the session holds too many results that its client has not acknowledged",
}


class Applier:
    """Applies entries in order. `resolve` is told the outcome of every group, waited for here or not."""

    def __init__(
        self,
        state_machine: StateMachine,
        sessions: SessionTable,
        resolve: Callable[[GroupKey, GroupOutcome], None],
    ) -> None:
        self.state_machine = state_machine
        self.sessions = sessions
        self.applied_index: LogIndex = 0
        self.log_time: Nanoseconds = 0
        self.digest = NOTHING
        """Of everything up to `applied_index` (`d_engine.replica.digest`)."""
        self.commands = 0
        self._resolve = resolve

    def apply(self, entry: Entry) -> None:
        """Apply the entry that follows the last one."""
        if entry.index != self.applied_index + 1:
            raise InvariantViolation(f"{entry!r} does not follow {self.applied_index}")
        self.log_time = max(self.log_time, entry.log_time)
        outcomes: list[bytes] = []
        if entry.kind is EntryKind.COMMANDS:
            context = ApplyContext(entry.index, entry.term, self.log_time)
            for ordinal, group in enumerate(decode_groups(entry.data, entry.count, ENTRY_HEADER_BYTES)):
                outcomes += self._apply_group(group, ordinal, context)
        elif entry.kind is EntryKind.TIMED:
            commands = decode_timed(entry.payload, entry.count)
            context = ApplyContext(entry.index, entry.term, self.log_time)
            outcomes += self.state_machine.apply(commands, context)
        self.digest = roll(self.digest, entry, self.state_machine.revision, outcomes)
        self.applied_index = entry.index

    def restore(self, file: SnapshotFile) -> None:
        """Become the state that a verified snapshot holds. Raises `StorageError`; then nothing has changed."""
        at_once(self.restoring(file))()

    def restoring(self, file: SnapshotFile) -> Generator[None, None, Replacement]:
        """The same in steps, as far as the state machine allows it (see `GradualStateMachine`). Entries may be applied
        meanwhile, up to the snapshot's index."""
        log_time = b"".join(file.pieces(Section.LOG_TIME))
        if len(log_time) != LOG_TIME.size:
            raise SnapshotError(f"{file.name}: the section LOG_TIME has {len(log_time)} bytes")
        digest = b"".join(file.pieces(Section.DIGEST))
        if len(digest) != DIGEST_BYTES:
            raise SnapshotError(f"{file.name}: the section DIGEST has {len(digest)} bytes")
        sessions = decode_sessions(file.pieces(Section.SESSIONS))
        machine = self.state_machine
        replacement: Replacement | None = None
        if isinstance(machine, GradualStateMachine):
            replacement = yield from machine.restoring(file.pieces(Section.STATE))

        def become() -> Iterator[None]:
            before: Iterator[None] = iter(())
            if replacement is None:
                machine.restore(file.pieces(Section.STATE))
            else:
                before = replacement()
            self.sessions.replace(sessions)
            (self.log_time,) = LOG_TIME.unpack(log_time)
            self.digest = digest
            self.applied_index = file.header.index
            return before

        return become

    def resolve_waiting(self, waiting: Sequence[GroupKey]) -> None:
        """The restored state may hold results that somebody here waits for. Of other groups it does not tell."""
        for key in waiting:
            stored = self.sessions.result(*key)
            if stored is not None:
                self._resolve(key, GroupOutcome(stored.results, stored.revision, None))

    def _apply_group(self, group: Group, ordinal: int, context: ApplyContext) -> Sequence[bytes]:
        """What the group came to, for the digest."""
        key = (group.session, group.number)
        if group.opens_session:
            session = self.sessions.open(context.index, ordinal)
            self._resolve(key, GroupOutcome((), session, None))
            return (_OPENED,)
        verdict, stored = self.sessions.judge(group.session, group.number, group.floor, group.checksum)
        if verdict is Verdict.NEW:
            machine = self.state_machine
            results = machine.apply(group.commands, context)
            if len(results) != len(group.commands):
                raise InvariantViolation(f"{len(group.commands)} commands gave {len(results)} results")
            stored = Stored(group.checksum, machine.revision, results, sum(map(len, results)))
            self.sessions.store(group.session, group.number, stored)
            self.commands += len(results)
        if stored is not None:
            self._resolve(key, GroupOutcome(stored.results, stored.revision, None))
            return stored.results
        self._resolve(key, GroupOutcome((), 0, refusal(verdict)))
        return (verdict.name.encode(),)


def refusal(verdict: Verdict) -> DEngineError:
    """Why a group was not applied *now*. An earlier copy of it may have been, so its outcome is unknown."""
    if verdict is Verdict.LOST:
        return SessionLostError(
            "the session is gone (too many sessions, or the state was restored without them)"
        )
    return OutcomeUnknownError(f"the group was refused: {_REFUSALS[verdict]}")
