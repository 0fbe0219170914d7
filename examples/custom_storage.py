"""A storage engine of one's own: the log in an SQLite file.

Run it: `python examples/custom_storage.py`. Its test (`tests/examples/test_custom_storage.py`) puts it through the
suite that every storage engine must pass, `d_engine.testing.storage_suite`.

What makes it one: everything that was handed over in one turn of the loop is one transaction, and `on_durable` is told
when SQLite has synced it, after `append` has returned. It is simple rather than fast: the transaction is committed on
the engine's own thread, which does nothing else meanwhile. The engine's own log hands its writes to a thread.
"""

import asyncio
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from d_engine import EmbeddedEngine
from d_engine.engine.config import EngineConfig
from d_engine.format.configuration import Configuration, decode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import CorruptionError, DEngineError, DiskError, MalformedError
from d_engine.format.ids import LogIndex
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState, RecoveredLog, TermRun
from d_engine.replica.ports import Host
from d_engine.storage.disk import Disk

_TABLES = """
CREATE TABLE IF NOT EXISTS entries (place INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, number INTEGER NOT NULL);
"""
_TAIL = 100
"""So many entries are handed back with the recovered log, so that peers get them without a query."""


class SqliteStorage:
    """`d_engine.storage.api.LogStorage`. `call_soon` runs a function in a later turn of the loop."""

    full = False

    def __init__(self, path: Path, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._call_soon = call_soon
        # Manual transactions; and a commit returns when it is on stable storage.
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_TABLES)
        self._on_durable: Callable[[int], None] | None = None
        self._on_failure: Callable[[DEngineError], None] | None = None
        self._open = False
        self._seq = 0

    # --- before the start ---

    def recover(self) -> RecoveredLog:
        """All of it. SQLite has undone what was not committed."""
        facts = dict(self._database.execute("SELECT name, number FROM facts"))
        first = last = facts.get("base", 0)
        first += 1
        runs: list[TermRun] = []
        configurations: list[tuple[LogIndex, Configuration]] = []
        tail: deque[Entry] = deque(maxlen=_TAIL)
        for place, data in self._database.execute("SELECT place, data FROM entries ORDER BY place"):
            entry = _decode(place, data)
            if place != last + 1:
                raise CorruptionError(f"entry {last + 1} is missing: entry {place} follows {last}")
            last = place
            if not runs or runs[-1].term != entry.term:
                runs.append(TermRun(place, entry.term))
            if entry.kind is EntryKind.CONFIGURATION:
                configurations.append((place, decode_configuration(entry.payload)))
            tail.append(entry)
        state = HardState(facts.get("term", 0), facts.get("vote", 0))
        return RecoveredLog(state, None, first, last, tuple(runs), tuple(configurations), tuple(tail))

    def start(
        self,
        on_durable: Callable[[int], None],
        on_failure: Callable[[DEngineError], None],
        on_full: Callable[[bool], None],
    ) -> None:
        self._on_durable, self._on_failure = on_durable, on_failure

    # --- in use ---

    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        self._begin(seq)
        if hard_state is not None:
            self._set("term", hard_state.term)
            self._set("vote", hard_state.vote)
        if entries:
            self._database.execute("DELETE FROM entries WHERE place >= ?", (entries[0].index,))
            rows = [(entry.index, entry.data) for entry in entries]
            self._database.executemany("INSERT INTO entries VALUES (?, ?)", rows)

    def read(self, first: LogIndex, max_bytes: int) -> Sequence[Entry]:
        found: list[Entry] = []
        for place, data in self._database.execute(
            "SELECT place, data FROM entries WHERE place >= ? ORDER BY place", (first,)
        ):
            max_bytes -= len(data)
            if found and max_bytes < 0:
                break
            found.append(_decode(place, data))
        return found

    def compact(self, index: LogIndex) -> None:
        # It need not be durable: it is committed together with what comes next.
        self._begin(self._seq)
        self._database.execute("DELETE FROM entries WHERE place <= ?", (index,))
        self._database.execute("INSERT OR IGNORE INTO facts VALUES ('base', 0)")
        self._database.execute("UPDATE facts SET number = max(number, ?) WHERE name = 'base'", (index,))

    def reset(self, snapshot: SnapshotMeta) -> None:
        self._begin(self._seq)
        self._database.execute("DELETE FROM entries")
        self._set("base", snapshot.index)

    def retry(self) -> None:
        """There is room, or SQLite says otherwise, and the node stops."""

    def close(self) -> None:
        self._on_durable = self._on_failure = None
        self._database.close()

    # --- inside ---

    def _begin(self, seq: int) -> None:
        if not self._open:
            self._database.execute("BEGIN")
            self._open = True
            self._call_soon(self._commit)
        self._seq = seq

    def _commit(self) -> None:
        if self._on_durable is None or self._on_failure is None:
            return
        try:
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            # A sync that failed is never tried again: nobody knows what is on the disk.
            self._on_failure(DiskError(f"SQLite cannot commit: {error}"))
            return
        self._open = False
        if self._seq:
            self._on_durable(self._seq)

    def _set(self, name: str, number: int) -> None:
        self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, number))


def _decode(place: int, data: bytes) -> Entry:
    """Entries carry a checksum: what SQLite returns is checked once more."""
    try:
        entry = Entry.decode(data)
    except MalformedError as error:
        raise CorruptionError(f"entry {place} is damaged: {error}") from None
    if entry.index != place:
        raise CorruptionError(f"entry {entry.index} stands in the place of {place}")
    return entry


def in_sqlite(disk: Disk, host: Host, config: EngineConfig) -> SqliteStorage:
    """What `EmbeddedEngine` and `NodeBuilder` take as a storage engine. The identity file and snapshots stay where they
    are, on `disk`."""
    return SqliteStorage(Path(config.node.data_dir) / "log.sqlite", host.call_soon)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        count = 0
        while count < 3:
            async with EmbeddedEngine(f"{folder}/data", storage_engine=in_sqlite) as engine:
                client = engine.client
                count = int(await client.get("starts") or b"0") + 1
                await client.put("starts", str(count))
        print(f"started {count} times")


if __name__ == "__main__":
    asyncio.run(main())
