"""What a replica needs of a log's storage. `wal` is the default engine, `memory` the one that forgets everything.

Implement `LogStorage` to keep the log elsewhere; `d_engine.testing` holds a suite that every engine must pass.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from d_engine.format.entry import Entry
from d_engine.format.errors import DEngineError
from d_engine.format.ids import LogIndex
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState, RecoveredLog
from d_engine.storage.salvage import Repair


class LogStorage(Protocol):
    """Term, vote and entries, durable.

    * `recover` comes first, once: it repairs what a crash may leave (a torn tail) and returns everything that is
      durable. It raises `CorruptionError` rather than lose anything that had been synced.
    * `start` sets whom to tell: `on_durable(seq)` when everything handed over up to `seq` is on stable storage,
      `on_failure(error)` when a write or sync failed: nothing more will become durable, the node must stop.
    * `append` hands over, in this order, a hard state (if not None) and entries. Entries are contiguous. If the first
      one's index is not behind the last, everything from it on is replaced. It returns at once; what is handed over
      while a write is under way is written together, with one sync.
    * `read` returns entries from `first` on, handed over before and not replaced, at least one if there is one, up to
      about `max_bytes`. Raises `CorruptionError` when one does not read back as written.
    * `compact` says that entries up to `index` may go (a durable snapshot stands for them).
    * `reset` says that the log starts anew behind this snapshot (it was installed from a peer). Durable by the next
      `seq` handed over.
    * `full` is true while there is no room for more commands; `on_full(bool)` tells of changes. Every `append` looks
      whether there is room again; `retry` does so too, for a timer while nothing is appended.
    * `close` ends without waiting for anything.
    """

    @property
    def full(self) -> bool: ...

    def recover(self) -> RecoveredLog: ...

    def start(
        self,
        on_durable: Callable[[int], None],
        on_failure: Callable[[DEngineError], None],
        on_full: Callable[[bool], None],
    ) -> None: ...

    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None: ...

    def read(self, first: LogIndex, max_bytes: int) -> Sequence[Entry]: ...

    def compact(self, index: LogIndex) -> None: ...

    def reset(self, snapshot: SnapshotMeta) -> None: ...

    def retry(self) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class RepairableStorage(Protocol):
    """What an engine may offer that can still use a part of a damaged log, if the rest can be had from other members.

    `recover_part` is `recover`, but before it cuts off what cannot be read it calls `repair` with what it found, and
    returns the good beginning. If `repair` raises, nothing was changed.
    """

    def recover_part(self, repair: Repair) -> RecoveredLog: ...
