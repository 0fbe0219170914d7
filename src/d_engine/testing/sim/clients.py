"""Simulated clients: the production `GroupWriter` and the rules of the remote client, on virtual time, with a record of
everything that they asked and were told.

A client has a few *lines*, each of which does one thing after the other, as a task would. Several kinds of data are
worked on, so that several kinds of checkers can look: registers (put, get, delete, compare-and-swap, scan), a set that
only grows (a key for each element), lists that only grow (one key each, by compare-and-swap on the whole list), and
what `d_engine.testing.sim.many_keys` does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from d_engine.format.requests import EVENTUAL, LEASE, LINEARIZABLE
from d_engine.kv.commands import encode_compare_and_swap, encode_delete, encode_put
from d_engine.kv.results import decode_compare_and_swap, decode_delete, decode_put
from d_engine.testing.checkers.actions import Action, CompareAndSwap, Consistency, Delete, Put
from d_engine.testing.checkers.append import ListAction, ListAppend, ListRead
from d_engine.testing.checkers.bank import BankAction
from d_engine.testing.checkers.history import Handle, History
from d_engine.testing.checkers.sets import SetAction, SetAdd, SetRead
from d_engine.testing.sim.asking import Asker, Result
from d_engine.testing.sim.events import MILLISECOND, EventQueue
from d_engine.testing.sim.loop import SimLoop
from d_engine.testing.sim.many_keys import ManyKeys
from d_engine.testing.sim.paths import ClientPath
from d_engine.testing.sim.trace import Trace

REGISTER, ELEMENT, LIST = b"r/", b"s/", b"l/"
_POLICIES = {Consistency.LINEARIZABLE: LINEARIZABLE, Consistency.LEASE: LEASE, Consistency.EVENTUAL: EVENTUAL}
_LISTS = 3
_MAX_LIST = 40
_MAX_ELEMENTS = 400


@dataclass(slots=True)
class Workload:
    """What clients do, drawn once for a run. Weights are relative; `pause_ms` is the mean between two operations."""

    keys: int = 4
    lines: int = 2
    pause_ms: float = 20.0
    value_bytes: int = 16
    timeout_ms: int = 2000
    put: float = 3.0
    delete: float = 0.5
    swap: float = 1.5
    get: float = 3.0
    scan_share: float = 0.1
    add: float = 0.5
    append: float = 1.0
    transact: float = 0.0
    transfer: float = 0.0
    lease_share: float = 0.2
    eventual_share: float = 0.2


@dataclass(slots=True)
class Histories:
    """What all clients of a run did, once in the store's terms and once in those of the set, the lists, the bank."""

    store: History[Action] = field(default_factory=History)
    elements: History[SetAction] = field(default_factory=History)
    lists: History[ListAction] = field(default_factory=History)
    bank: History[BankAction] = field(default_factory=History)


class SimClient:
    """One client in one life. `busy` counts its lines that wait for an answer."""

    def __init__(
        self,
        name: str,
        path: ClientPath,
        events: EventQueue,
        loop: SimLoop,
        rng: Random,
        trace: Trace,
        workload: Workload,
        histories: Histories,
        budget: int,
    ) -> None:
        self.name = name
        self.path = path
        self.busy = 0
        self.budget = budget
        self._events = events
        self._rng = rng
        self._workload = workload
        self._histories = histories
        self._asker = Asker(name, path, loop, rng, trace, workload.timeout_ms, histories.store)
        self._many = ManyKeys(name, self._asker, rng, histories.bank, self._unique, self._done)
        self._number = 0

    def begin(self) -> None:
        """Start all lines."""
        for line in range(self._workload.lines):
            self._pause(line)

    def crash(self) -> None:
        """The client is gone; what it had asked for stays open."""
        self._asker.closed = True
        self.path.alive = False

    # --- lines ----------------------------------------------------------------------------------------------

    def _pause(self, line: int) -> None:
        mean = self._workload.pause_ms * MILLISECOND
        self._events.after(int(self._rng.expovariate(1.0) * mean), self._next, line)

    def _next(self, line: int) -> None:
        if self._asker.closed or self.budget <= 0:
            return
        self.budget -= 1
        self.busy += 1
        workload = self._workload
        actions = (
            self._put,
            self._delete,
            self._swap,
            self._get,
            self._add,
            self._append,
            self._many.transact,
            lambda line: self._many.transfer(line, self._consistency()),
        )
        weights = (
            workload.put,
            workload.delete,
            workload.swap,
            workload.get,
            workload.add,
            workload.append,
            workload.transact,
            workload.transfer,
        )
        self._rng.choices(actions, weights)[0](line)

    def _done(self, line: int) -> None:
        self.busy -= 1
        self._pause(line)

    def _key(self) -> bytes:
        return REGISTER + b"%d" % self._rng.randrange(self._workload.keys)

    def _unique(self) -> bytes:
        self._number += 1
        size = self._workload.value_bytes
        return b"%s.%d" % (self.name.encode(), self._number) + b"." * self._rng.randrange(size + 1)

    def _consistency(self) -> Consistency:
        chance = self._rng.random()
        if chance < self._workload.lease_share:
            return Consistency.LEASE
        if chance < self._workload.lease_share + self._workload.eventual_share:
            return Consistency.EVENTUAL
        return Consistency.LINEARIZABLE

    # --- operations -----------------------------------------------------------------------------------------

    def _put(self, line: int) -> None:
        key, value = self._key(), self._unique()
        self._asker.write(
            line, Put(key, value), encode_put(key, value), _put_result, lambda result, known: self._done(line)
        )

    def _delete(self, line: int) -> None:
        key = self._key()
        self._asker.write(
            line, Delete(key), encode_delete(key), _delete_result, lambda result, known: self._done(line)
        )

    def _swap(self, line: int) -> None:
        key, value = self._key(), self._unique()
        expected = self._asker.seen.get(key)
        command = encode_compare_and_swap(key, expected, value)
        action = CompareAndSwap(key, expected, value)
        self._asker.write(line, action, command, _swap_result, lambda result, known: self._done(line))

    def _get(self, line: int) -> None:
        if self._rng.random() < self._workload.scan_share:
            self._asker.read_prefix(
                line, REGISTER, self._consistency(), lambda result, known: self._done(line)
            )
        else:
            self._asker.read_key(
                line, self._key(), self._consistency(), lambda result, known: self._done(line)
            )

    def _add(self, line: int) -> None:
        elements = self._histories.elements
        if len(elements) >= _MAX_ELEMENTS or self._rng.random() < 0.15:
            handle = elements.invoke(self.name, SetRead(), session=line)
            self._asker.read_prefix(
                line, ELEMENT, Consistency.LINEARIZABLE, partial(self._set_read, line, handle)
            )
            return
        element = self._unique()
        handle = elements.invoke(self.name, SetAdd(element), session=line)
        key = ELEMENT + element
        self._asker.write(
            line,
            Put(key, b"1"),
            encode_put(key, b"1"),
            _put_result,
            partial(self._written, line, elements, handle),
        )

    def _set_read(self, line: int, handle: Handle, result: object, known: bool | None) -> None:
        found = frozenset(key[len(ELEMENT) :] for key, _ in result) if isinstance(result, tuple) else None
        _end(self._histories.elements, handle, found, known)
        self._done(line)

    def _append(self, line: int) -> None:
        key = LIST + b"%d" % self._rng.randrange(_LISTS)
        handle = self._histories.lists.invoke(self.name, ListRead(key), session=line)
        self._asker.read_key(line, key, Consistency.LINEARIZABLE, partial(self._list_read, line, key, handle))

    def _list_read(self, line: int, key: bytes, handle: Handle, result: object, known: bool | None) -> None:
        lists = self._histories.lists
        current = result if isinstance(result, bytes) else None
        elements = tuple(current.split(b",")) if current is not None else ()
        _end(lists, handle, elements, known)
        if not known or len(elements) >= _MAX_LIST:
            self._done(line)
            return
        element = self._unique()
        value = element if current is None else current + b"," + element
        command = encode_compare_and_swap(key, current, value)
        appending = lists.invoke(self.name, ListAppend(key, element), session=line)
        action = CompareAndSwap(key, current, value)
        self._asker.write(line, action, command, _swap_result, partial(self._written, line, lists, appending))

    def _written(
        self,
        line: int,
        history: History[SetAction] | History[ListAction],
        handle: Handle,
        result: object,
        known: bool | None,
    ) -> None:
        """A refused swap has changed nothing, and is known not to have."""
        _end(history, handle, None, known and result is not False)
        self._done(line)

    def write_something(self, then: Callable[[bool], None]) -> None:
        """A write that must succeed."""
        key, value = self._key(), self._unique()
        self._asker.write(
            0, Put(key, value), encode_put(key, value), _put_result, lambda result, known: then(known is True)
        )

    def read_everything(self, then: Callable[[bool], None]) -> None:
        """The final reads: every key at once, and the same as the set, the lists and the bank."""
        elements, lists = self._histories.elements, self._histories.lists
        handle, bank = elements.invoke(self.name, SetRead()), self._many.begin_read()
        reads = [
            (lists.invoke(self.name, ListRead(LIST + b"%d" % n)), LIST + b"%d" % n) for n in range(_LISTS)
        ]

        def ended(result: object, known: bool | None) -> None:
            pairs = dict(result) if isinstance(result, tuple) else {}
            found = frozenset(key[len(ELEMENT) :] for key in pairs if key.startswith(ELEMENT))
            _end(elements, handle, found, known)
            self._many.end_read(bank, result, known)
            for read, key in reads:
                value = pairs.get(key)
                _end(lists, read, () if value is None else tuple(value.split(b",")), known)
            then(known is True)

        self._asker.read_prefix(0, b"", Consistency.LINEARIZABLE, ended)


def _end(
    history: History[SetAction] | History[ListAction], handle: Handle, result: object, known: bool | None
) -> None:
    if known is None:
        history.unknown(handle)
    elif known:
        history.ok(handle, result)
    else:
        history.fail(handle)


def _put_result(result: bytes) -> Result:
    return None, decode_put(result).revision


def _delete_result(result: bytes) -> Result:
    answer = decode_delete(result)
    return answer.deleted, answer.revision


def _swap_result(result: bytes) -> Result:
    answer = decode_compare_and_swap(result)
    return answer.succeeded, answer.revision
