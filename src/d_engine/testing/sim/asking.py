"""What a client asks, over what path, and the record of it."""

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TypeAlias, TypeVar

from d_engine.client.reader import BatchReader
from d_engine.client.writer import GroupWriter
from d_engine.format.errors import DEngineError, NotAppliedError
from d_engine.format.requests import EVENTUAL, LEASE, LINEARIZABLE
from d_engine.kv.queries import decode_entries, decode_scan, encode_get_entries, encode_scan_prefix
from d_engine.testing.checkers.actions import Action, Consistency, Get, Scan
from d_engine.testing.checkers.history import Handle, History
from d_engine.testing.sim.loop import SimLoop
from d_engine.testing.sim.paths import ClientPath
from d_engine.testing.sim.trace import Trace

_POLICIES = {Consistency.LINEARIZABLE: LINEARIZABLE, Consistency.LEASE: LEASE, Consistency.EVENTUAL: EVENTUAL}
Result: TypeAlias = tuple[object, int]
"""A result and its revision."""
Decode: TypeAlias = Callable[[bytes], Result]
Then: TypeAlias = Callable[[object, bool | None], None]
"""Called with the result and True (it is so), False (it is certainly not), or None (nobody knows)."""
_Answer = TypeVar("_Answer")


class Asker:
    """Asks through a path and records what was asked and answered."""

    def __init__(
        self,
        name: str,
        path: ClientPath,
        loop: SimLoop,
        rng: Random,
        trace: Trace,
        timeout_ms: int,
        history: History[Action],
    ) -> None:
        self.closed = False
        self.seen: dict[bytes, bytes | None] = {}
        """By key, what was read last."""
        self._name = name
        self._rng = rng
        self._trace = trace
        self._history = history
        self._writer = GroupWriter(loop.as_event_loop(), path, timeout_ms / 1000)
        self._reader = BatchReader(loop.as_event_loop(), path, timeout_ms / 1000)
        self._revision = 0

    def write(
        self, line: int, action: Action, command: bytes, decode: Decode, then: Then, large: bool = False
    ) -> None:
        """Write. `decode` makes a result and its revision of the answer (`large`: it may be a whole value), `then` is
        told how it ended."""
        handle = self._history.invoke(self._name, action, session=line)
        write = partial(self._writer.write, command, None, large)
        _ask(write, decode, lambda result, error: self._ended(handle, result, error, then))

    def ask_for(self, command: bytes, decode: Callable[[bytes], object], then: Then) -> None:
        """A command that changes nothing which others can read: it is no part of the history."""

        def ended(result: object, error: DEngineError | None) -> None:
            if not self.closed:
                refused = isinstance(error, NotAppliedError)
                then(result, True if error is None else False if refused else None)

        _ask(partial(self._writer.write, command), decode, ended)

    def read_key(self, line: int, key: bytes, consistency: Consistency, then: Then) -> None:
        """Read one key: its value, or None."""
        action = Get(key, consistency, self._min_revision(consistency))

        def decode(answer: bytes) -> Result:
            entries = decode_entries(answer)
            entry = entries.entries[0]
            value = None if entry is None else entry.value
            self.seen[key] = value
            return value, entries.revision

        self._read(line, action, encode_get_entries((key,)), decode, then)

    def read_prefix(self, line: int, prefix: bytes, consistency: Consistency, then: Then) -> None:
        """Read what begins with the prefix: pairs of key and value."""
        end = prefix[:-1] + bytes((prefix[-1] + 1,)) if prefix else None
        action = Scan(prefix, end, None, consistency, self._min_revision(consistency))

        def decode(answer: bytes) -> Result:
            scan = decode_scan(answer)
            return tuple((item.key, item.value) for item in scan.items), scan.revision

        self._read(line, action, encode_scan_prefix(prefix), decode, then)

    def _min_revision(self, consistency: Consistency) -> int:
        return self._revision if consistency is Consistency.EVENTUAL and self._rng.random() < 0.5 else 0

    def _read(self, line: int, action: Get | Scan, query: bytes, decode: Decode, then: Then) -> None:
        handle = self._history.invoke(self._name, action, session=line)
        read = partial(self._reader.read, _POLICIES[action.consistency], action.min_revision, query)
        _ask(read, decode, lambda result, error: self._ended(handle, result, error, then))

    def _ended(self, handle: Handle, result: Result | None, error: DEngineError | None, then: Then) -> None:
        if self.closed:
            return
        history = self._history
        if result is not None:
            value, revision = result
            self._revision = max(self._revision, revision)
            history.ok(handle, value, revision)
            self._trace.counters["client: ok"] += 1
            then(value, True)
        elif isinstance(error, NotAppliedError):
            history.fail(handle)
            self._trace.counters[f"client: failed ({error.code})"] += 1
            then(None, False)
        else:
            history.unknown(handle)
            self._trace.counters["client: unknown"] += 1
            then(None, None)


def _ask(
    ask: "Callable[[], asyncio.Future[bytes]]",
    decode: Callable[[bytes], _Answer],
    ended: Callable[[_Answer | None, DEngineError | None], None],
) -> None:
    try:
        future = ask()
    except DEngineError as error:
        ended(None, error)
        return

    def answered(future: "asyncio.Future[bytes]") -> None:
        try:
            answer = decode(future.result())
        except DEngineError as error:
            ended(None, error)
        else:
            ended(answer, None)

    future.add_done_callback(answered)
