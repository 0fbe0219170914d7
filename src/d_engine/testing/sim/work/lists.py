"""Lists that only grow, one key each, by compare-and-swap on the whole list: all clients see one order."""

from collections.abc import Mapping
from functools import partial

from d_engine.kv.commands import encode_compare_and_swap
from d_engine.testing.checkers.actions import CompareAndSwap, Consistency
from d_engine.testing.checkers.append import ListAppend, ListRead
from d_engine.testing.checkers.history import Handle
from d_engine.testing.sim.work.kind import FinalRead, Hand, Line, Operation, end
from d_engine.testing.sim.work.registers import swap_result

_LISTS = tuple(b"l/%d" % number for number in range(3))
_MAX_LENGTH = 40


class Lists:
    """One client's part in it."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._history = hand.histories.lists

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"append": self._append}

    def final_read(self) -> FinalRead:
        handles = [self._history.invoke(self._hand.name, ListRead(key)) for key in _LISTS]

        def ended(pairs: dict[bytes, bytes], known: bool | None) -> None:
            for handle, key in zip(handles, _LISTS, strict=True):
                end(self._history, handle, _elements(pairs.get(key)), known)

        return ended

    def _append(self, line: Line) -> None:
        hand, key = self._hand, self._hand.rng.choice(_LISTS)
        handle = self._history.invoke(hand.name, ListRead(key), session=line)
        read = partial(self._read, line, key, handle)
        hand.asker.read_key(line, key, Consistency.LINEARIZABLE, read)

    def _read(self, line: Line, key: bytes, handle: Handle, result: object, known: bool | None) -> None:
        hand = self._hand
        current = result if isinstance(result, bytes) else None
        elements = _elements(current)
        end(self._history, handle, elements, known)
        if not known or len(elements) >= _MAX_LENGTH:
            hand.done(line)
            return
        element = hand.unique()
        value = element if current is None else current + b"," + element
        command = encode_compare_and_swap(key, current, value)
        appending = self._history.invoke(hand.name, ListAppend(key, element), session=line)
        action = CompareAndSwap(key, current, value)
        hand.asker.write(line, action, command, swap_result, partial(self._appended, line, appending))

    def _appended(self, line: Line, handle: Handle, result: object, known: bool | None) -> None:
        """A refused swap has changed nothing, and is known not to have."""
        end(self._history, handle, None, known and result is not False)
        self._hand.done(line)


def _elements(value: bytes | None) -> tuple[bytes, ...]:
    return () if value is None else tuple(value.split(b","))
