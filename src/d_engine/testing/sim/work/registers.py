"""Registers: put, get, delete, compare-and-swap, scan over a few keys. Linearizability and the order of revisions are
checked."""

from collections.abc import Callable, Mapping

from d_engine.kv.commands import encode_compare_and_swap, encode_delete, encode_put
from d_engine.kv.results import decode_compare_and_swap, decode_delete, decode_put
from d_engine.testing.checkers.actions import CompareAndSwap, Delete, Put
from d_engine.testing.sim.asking import Result
from d_engine.testing.sim.work.kind import FinalRead, Hand, Line, Operation, no_final_read

REGISTER = b"r/"


class Registers:
    """One client's part in it."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"put": self._put, "delete": self._delete, "swap": self._swap, "get": self._get}

    def final_read(self) -> FinalRead:
        return no_final_read()

    def write_something(self, then: Callable[[bool], None]) -> None:
        """A write that must succeed."""
        key, value = self._key(), self._hand.unique()
        self._hand.asker.write(
            0, Put(key, value), encode_put(key, value), put_result, lambda result, known: then(known is True)
        )

    def _key(self) -> bytes:
        return REGISTER + b"%d" % self._hand.rng.randrange(self._hand.workload.keys)

    def _put(self, line: Line) -> None:
        hand, key, value = self._hand, self._key(), self._hand.unique()
        hand.asker.write(
            line, Put(key, value), encode_put(key, value), put_result, lambda result, known: hand.done(line)
        )

    def _delete(self, line: Line) -> None:
        hand, key = self._hand, self._key()
        hand.asker.write(
            line, Delete(key), encode_delete(key), _delete_result, lambda result, known: hand.done(line)
        )

    def _swap(self, line: Line) -> None:
        hand, key, value = self._hand, self._key(), self._hand.unique()
        expected = hand.asker.seen.get(key)
        command = encode_compare_and_swap(key, expected, value)
        action = CompareAndSwap(key, expected, value)
        hand.asker.write(line, action, command, swap_result, lambda result, known: hand.done(line))

    def _get(self, line: Line) -> None:
        hand = self._hand
        if hand.rng.random() < hand.workload.scan_share:
            hand.asker.read_prefix(line, REGISTER, hand.consistency(), lambda result, known: hand.done(line))
        else:
            hand.asker.read_key(line, self._key(), hand.consistency(), lambda result, known: hand.done(line))


def put_result(result: bytes) -> Result:
    """Of a put."""
    return None, decode_put(result).revision


def _delete_result(result: bytes) -> Result:
    answer = decode_delete(result)
    return answer.deleted, answer.revision


def swap_result(result: bytes) -> Result:
    """Of a compare-and-swap."""
    answer = decode_compare_and_swap(result)
    return answer.succeeded, answer.revision
