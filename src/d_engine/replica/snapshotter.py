"""Taking a snapshot of this node's own state while everything else goes on.

The view is frozen between two turns, so it holds exactly what was applied then: index, sessions, log time, state. What
is frozen costs references, not copies; whoever changes something afterwards copies the little that he changes. Then it
is written, a slice a turn. A slice is measured in bytes, because here is no clock: 64 KiB are made, hashed and handed
over in well under a millisecond. Between two slices is a pause: a loop that never sleeps keeps the interpreter from
the application's threads, each of which would wait five milliseconds for every turn of its own.

When: as soon as the log that was applied since the last one is larger than a limit and than that one was. So the work
is proportional to what was written, and a restart never applies much more log than it reads snapshot. Nodes apply the
same log at the same time; so that they do not all write at the same time, a member's limit grows with its place among
the voters, by up to a half.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from d_engine.format.errors import DEngineError, DiskError, DiskFullError, SnapshotError
from d_engine.format.ids import Nanoseconds
from d_engine.format.state_machine import ReleasableView
from d_engine.raft.core import Raft
from d_engine.replica.applier import LOG_TIME, Applier
from d_engine.replica.session_codec import encode_sessions
from d_engine.replica.settings import SECOND, SnapshotSettings
from d_engine.storage.snapshot_format import Section, SnapshotHeader
from d_engine.storage.snapshot_writer import SnapshotWriter
from d_engine.storage.snapshots import SAVING_NAME, SnapshotFile, SnapshotFiles

SnapshotDone: TypeAlias = Callable[[SnapshotHeader | None, DEngineError | None], None]
RETRY_AFTER: Nanoseconds = 60 * SECOND
"""After an attempt that failed, for want of room above all."""
_STEPS_PER_SLICE = 8
"""Of letting go of a view."""
_Piece: TypeAlias = tuple[Section, bytes] | None
"""None ends the slice."""
_END: _Piece = (Section.DIGEST, b"")


class Snapshotter:
    """One snapshot at a time."""

    def __init__(
        self,
        settings: SnapshotSettings,
        raft: Raft,
        applier: Applier,
        files: SnapshotFiles,
        wake: Callable[[], None],
    ) -> None:
        self.taken = 0
        """Snapshots that are on stable storage."""
        self.log_bytes = 0
        """Applied since the newest snapshot."""
        self._settings = settings
        self._raft = raft
        self._applier = applier
        self._files = files
        self._wake = wake
        self._waiting: list[SnapshotDone] = []
        self._served: list[SnapshotDone] = []
        self._writer: SnapshotWriter | None = None
        self._pieces: Iterator[_Piece] = iter(())
        self._outcome: tuple[SnapshotFile | None, DEngineError | None] | None = None
        self._frozen_bytes = 0
        self._failed: tuple[Nanoseconds, str] = (0, "")
        """After an attempt that failed: until when no other is made by itself, and for what there was no room."""
        self._resume_at: Nanoseconds = 0

    @property
    def deadline(self) -> Nanoseconds | None:
        """When the next slice is due."""
        return self._resume_at if self._writer is not None and self._writer.ready else None

    @property
    def lacks_room(self) -> str:
        """For what the disk had no room when one was due; empty if nothing is wanting."""
        return self._failed[1]

    @property
    def not_before(self) -> Nanoseconds:
        """None is due before that: the last attempt failed."""
        return self._failed[0]

    @property
    def written(self) -> int:
        """Bytes of the snapshot that is being made; 0 if none is."""
        return 0 if self._writer is None else self._writer.size

    @property
    def idle(self) -> bool:
        """None is being made or waited for."""
        return self._writer is None and not self._waiting and not self._served

    def ask(self, done: SnapshotDone) -> None:
        """Take one of now or later. `done` hears when it is on stable storage."""
        self._waiting.append(done)

    def run(self, now: Nanoseconds) -> tuple[bool, SnapshotFile | None]:
        """A slice. `(there is more to do at once, the snapshot that is ready)`. Raises `DiskError`."""
        if self._outcome is not None:
            return bool(self._waiting), self._conclude(*self._outcome, now)
        if self._writer is None and self._is_due(now):
            self._begin()
        writer = self._writer
        if writer is None or not writer.ready or now < self._resume_at:
            return False, None
        self._resume_at = now + self._settings.pause_ns
        left = self._settings.slice_bytes
        while left > 0:
            piece = next(self._pieces, _END)
            if piece is _END:
                writer.finish(self._settings.slice_bytes)
            if piece is _END or piece is None:
                break
            writer.add(*piece)
            left -= max(len(piece[1]), 1)
        return not self._settings.pause_ns and writer.ready, None

    def restart(self) -> None:
        """The state was replaced by one from elsewhere, for which there is a snapshot."""
        self.log_bytes = 0
        if self._writer is not None:
            self._writer.abandon(SnapshotError("the state was replaced by a newer one, from another node"))

    def fail(self, error: DEngineError) -> None:
        """The node stops."""
        waiting = [*self._served, *self._waiting]
        self._served, self._waiting, self._writer = [], [], None
        for done in waiting:
            done(None, error)

    def _is_due(self, now: Nanoseconds) -> bool:
        if self._waiting:
            return True
        limit = self._settings.log_bytes
        if self.log_bytes <= limit or now < self._failed[0]:
            return False
        newest = self._files.newest
        if newest is not None:
            limit = max(limit, newest.header.size)
        voters = self._raft.configuration.voters
        place = voters.index(self._raft.node_id) if self._raft.node_id in voters else len(voters)
        return self.log_bytes > limit + limit * place // (2 * max(len(voters), 1))

    def _begin(self) -> None:
        newest, index = self._files.newest, self._applier.applied_index
        self._served, self._waiting = self._waiting, []
        if newest is not None and newest.header.index == index:
            self._answer(newest, None)
            return
        meta = self._raft.snapshot_meta(index)
        if meta is None:
            self._answer(None, SnapshotError("nothing has been applied here yet"))
            return
        self._frozen_bytes = self.log_bytes
        self._pieces = frozen_pieces(self._applier)
        self._writer = SnapshotWriter(self._files.disk, SAVING_NAME, meta, self._wake, self._written)

    def _written(self, file: SnapshotFile | None, error: DEngineError | None) -> None:
        self._outcome = (file, error)
        self._wake()

    def _conclude(
        self, file: SnapshotFile | None, error: DEngineError | None, now: Nanoseconds
    ) -> SnapshotFile | None:
        self._outcome = self._writer = None
        self._pieces = iter(())
        if file is not None:
            self.log_bytes = max(0, self.log_bytes - self._frozen_bytes)
            self._failed = (0, "")
        else:
            # Who asked for one is told.
            full = isinstance(error, DiskFullError) and not self._served
            text = f"a snapshot of this node's has no room ({error}); the log must stay" if full else ""
            self._failed = (now + RETRY_AFTER, text)
        self._answer(file, error)
        if isinstance(error, DiskError):
            raise error
        return file

    def _answer(self, file: SnapshotFile | None, error: DEngineError | None) -> None:
        served, self._served = self._served, []
        for done in served:
            done(None if file is None else file.header, error)


def frozen_pieces(applier: Applier) -> Iterator[_Piece]:
    """The content of a snapshot of what is applied now, in the order of the file."""
    machine, log_time = applier.state_machine, LOG_TIME.pack(applier.log_time)
    sessions, view, digest = applier.sessions.freeze(), machine.view(), applier.digest

    def pieces() -> Iterator[_Piece]:
        yield Section.LOG_TIME, log_time
        for piece in encode_sessions(sessions):
            yield Section.SESSIONS, piece
        empty = True
        for piece in machine.chunks(view):
            empty = False
            yield Section.STATE, piece
        if empty:
            yield Section.STATE, b""
        yield Section.DIGEST, digest
        if isinstance(view, ReleasableView):
            for step, _ in enumerate(view.release()):
                if step % _STEPS_PER_SLICE == 0:
                    yield None

    return pieces()
