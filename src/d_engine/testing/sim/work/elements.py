"""A set that only grows, a key for each element: nothing acknowledged may be lost."""

from collections.abc import Mapping
from functools import partial

from d_engine.kv.commands import encode_put
from d_engine.testing.checkers.actions import Consistency, Put
from d_engine.testing.checkers.history import Handle
from d_engine.testing.checkers.sets import SetAdd, SetRead
from d_engine.testing.sim.work.kind import FinalRead, Hand, Line, Operation, end
from d_engine.testing.sim.work.registers import put_result

ELEMENT = b"s/"
_MAX_ELEMENTS = 400


class Elements:
    """One client's part in it."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._history = hand.histories.elements

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"add": self._add}

    def final_read(self) -> FinalRead:
        handle = self._history.invoke(self._hand.name, SetRead())

        def ended(pairs: dict[bytes, bytes], known: bool | None) -> None:
            found = frozenset(key[len(ELEMENT) :] for key in pairs if key.startswith(ELEMENT))
            end(self._history, handle, found, known)

        return ended

    def _add(self, line: Line) -> None:
        hand = self._hand
        if len(self._history) >= _MAX_ELEMENTS or hand.rng.random() < 0.15:
            handle = self._history.invoke(hand.name, SetRead(), session=line)
            hand.asker.read_prefix(line, ELEMENT, Consistency.LINEARIZABLE, partial(self._read, line, handle))
            return
        element = hand.unique()
        handle = self._history.invoke(hand.name, SetAdd(element), session=line)
        key = ELEMENT + element
        added = partial(self._added, line, handle)
        hand.asker.write(line, Put(key, b"1"), encode_put(key, b"1"), put_result, added)

    def _read(self, line: Line, handle: Handle, result: object, known: bool | None) -> None:
        found = frozenset(key[len(ELEMENT) :] for key, _ in result) if isinstance(result, tuple) else None
        end(self._history, handle, found, known)
        self._hand.done(line)

    def _added(self, line: Line, handle: Handle, result: object, known: bool | None) -> None:
        end(self._history, handle, None, known)
        self._hand.done(line)
