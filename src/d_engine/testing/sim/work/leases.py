"""Leases: held and given back or let go, keys with a TTL, locks whose holders stand still past their TTL.

`d_engine.testing.sim.tenure` watches what the cluster does with them. Here the client's side is held to: a key that
hangs on a lease is there as long as its holder, counting from when it sent its last keep-alive, may believe so.
"""

from collections.abc import Callable, Mapping
from functools import partial

from d_engine.format.ids import Nanoseconds
from d_engine.kv import transactions as kv
from d_engine.kv.commands import encode_delete, encode_held_put, encode_put, encode_transaction
from d_engine.kv.holding import KEEP_LEASE, ON_LEASE, WITH_TTL
from d_engine.kv.lease_commands import encode_grant, encode_keep_alive, encode_revoke
from d_engine.kv.results import (
    decode_delete,
    decode_granted,
    decode_kept,
    decode_lease_ended,
    decode_transaction_done,
)
from d_engine.testing.checkers.actions import (
    Compare,
    Consistency,
    Delete,
    Put,
    Transaction,
    TransactionResult,
)
from d_engine.testing.checkers.history import Handle
from d_engine.testing.checkers.locks import LockAcquire, LockUse
from d_engine.testing.sim.asking import Result
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.violations import InvariantBroken
from d_engine.testing.sim.work.kind import FinalRead, Hand, Line, Operation, end, no_final_read
from d_engine.testing.sim.work.registers import put_result

LEASED = b"e/"
MAX_TTL: Nanoseconds = 3 * SECOND
_PATIENCE: Nanoseconds = 500 * MILLISECOND
_SHARED = tuple(LEASED + b"%d" % number for number in range(3))
_LOCKS = tuple(LEASED + b"lock/%d" % number for number in range(2))
_FASTEST = 1_100_000
"""Clocks run at most a tenth faster than true time, in which clients count."""


class Leases:
    """One client's part in it."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._rng = hand.rng

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"hold": self._hold, "ttl": self._write_shared, "lock": self._lock}

    def final_read(self) -> FinalRead:
        return no_final_read()

    # --- keys that are written with and without TTL ---

    def _write_shared(self, line: Line) -> None:
        hand, key, value = self._hand, self._rng.choice(_SHARED), self._hand.unique()
        chance = self._rng.random()
        if chance < 0.1:
            hand.asker.write(line, Delete(key), encode_delete(key), _delete_result, self._done(line))
            return
        command = encode_put(key, value)
        if chance < 0.7:
            command = encode_held_put(key, value, False, WITH_TTL, self._ttl())
        elif chance < 0.85:
            command = encode_held_put(key, value, False, KEEP_LEASE, 0)
        hand.asker.write(line, Put(key, value), command, put_result, self._done(line))

    # --- leases that are held ---

    def _hold(self, line: Line) -> None:
        ttl = self._ttl()
        self._grant(line, ttl, partial(self._put_on, line, ttl))

    def _put_on(self, line: Line, ttl: Nanoseconds, lease: int, sent: Nanoseconds) -> None:
        hand, key = self._hand, LEASED + b"held/" + self._hand.name.encode() + b"/%d" % line
        value = hand.unique()
        command = encode_held_put(key, value, False, ON_LEASE, lease)

        def put(result: object, known: bool | None) -> None:
            if known:
                self._keep(line, ttl, lease, sent, key, self._rng.randrange(5))
            else:
                hand.done(line)

        hand.asker.write(line, Put(key, value), command, put_result, put)

    def _keep(
        self, line: Line, ttl: Nanoseconds, lease: int, sent: Nanoseconds, key: bytes, times: int
    ) -> None:
        """Keep it alive so many times, look whether the key is there, then give the lease back or let it go."""
        hand = self._hand
        if not times or hand.over():
            self._let_go(line, lease)
            return

        def kept(now: Nanoseconds, result: object, known: bool | None) -> None:
            if known and result == (0,):
                hand.trace.count("lease: lost")
                hand.done(line)
                return
            since = now if known else sent
            hand.asker.read_key(line, key, Consistency.LINEARIZABLE, partial(seen, since))

        def seen(since: Nanoseconds, result: object, known: bool | None) -> None:
            if known and result is None and hand.events.now < since + ttl * 1_000_000 // _FASTEST:
                raise InvariantBroken("I11", f"{key!r} is gone, though its lease {lease} must still live")
            self._keep(line, ttl, lease, since, key, times - 1)

        def again() -> None:
            if hand.asker.closed:
                return
            now = hand.events.now
            hand.asker.ask_for(
                encode_keep_alive([lease]), lambda answer: decode_kept(answer, 1), partial(kept, now)
            )

        self._wait(int(self._rng.uniform(0.1, 1.1) * ttl), again)

    def _let_go(self, line: Line, lease: int) -> None:
        if self._rng.random() < 0.5 or self._hand.over():
            self._hand.done(line)
        else:
            self._hand.asker.ask_for(encode_revoke(lease), decode_lease_ended, self._done(line))

    # --- locks ---

    def _lock(self, line: Line) -> None:
        ttl = self._ttl()
        self._grant(line, ttl, partial(self._acquire, line, ttl))

    def _acquire(self, line: Line, ttl: Nanoseconds, lease: int, sent: Nanoseconds) -> None:
        hand, lock, value = self._hand, self._rng.choice(_LOCKS), self._hand.unique()
        asked = kv.Transaction(
            (kv.Condition(lock, kv.VERSION, kv.EQUAL, 0),),
            (kv.HeldPutStep(lock, value, ON_LEASE, lease),),
            (),
        )
        action = Transaction((Compare(lock, None),), (Put(lock, value),))
        history = hand.histories.locks
        handle = history.invoke(hand.name, LockAcquire(lock), session=line)

        def decode(result: bytes) -> Result:
            done = decode_transaction_done(result, asked)
            token[:] = [done.revision] if done.succeeded else []
            return TransactionResult(done.succeeded, (None,) * len(done.steps)), done.revision

        def acquired(result: object, known: bool | None) -> None:
            end(history, handle, token[0] if token else None, known)
            if not token:
                self._let_go(line, lease)
                return
            hand.trace.count("lock: acquired")
            # Scenario 41: sometimes the holder stands still, and does not notice that its time is over.
            pause = int(self._rng.choice((0.1, 0.5, 2.0)) * ttl)
            self._wait(pause, partial(self._use, line, lock, token[0], lease))

        token: list[int] = []
        hand.asker.write(line, action, encode_transaction(asked), decode, acquired)

    def _use(self, line: Line, lock: bytes, token: int, lease: int) -> None:
        hand = self._hand
        if hand.asker.closed:
            return
        handle = hand.histories.locks.invoke(hand.name, LockUse(lock, token), session=line)
        hand.events.after(
            self._rng.randrange(50 * MILLISECOND), self._arrive, line, lock, token, lease, handle
        )

    def _arrive(self, line: Line, lock: bytes, token: int, lease: int, handle: Handle) -> None:
        """At what the lock protects: it refuses who has a lower token than it has seen."""
        hand, fences = self._hand, self._hand.histories.fences
        accepted = token >= fences.get(lock, 0)
        fences[lock] = max(token, fences.get(lock, 0))
        hand.trace.count("lock: use accepted" if accepted else "lock: late use refused")
        end(hand.histories.locks, handle, None, accepted)
        if not hand.asker.closed:
            self._let_go(line, lease)

    # --- all of them ---

    def _wait(self, pause: Nanoseconds, then: Callable[[], None]) -> None:
        """Do it later; soon, if nothing new is to begin."""
        if pause <= 0 or self._hand.over():
            then()
        else:
            part = min(pause, _PATIENCE)
            self._hand.events.after(part, self._wait, pause - part, then)

    def _ttl(self) -> Nanoseconds:
        return self._rng.randrange(100 * MILLISECOND, MAX_TTL)

    def _grant(self, line: Line, ttl: Nanoseconds, then: Callable[[int, Nanoseconds], None]) -> None:
        hand, sent = self._hand, self._hand.events.now

        def granted(result: object, known: bool | None) -> None:
            if known and isinstance(result, int):
                hand.trace.count("lease: granted")
                then(result, sent)
            else:
                hand.done(line)

        hand.asker.ask_for(encode_grant(ttl), lambda answer: decode_granted(answer).id, granted)

    def _done(self, line: Line) -> Callable[[object, bool | None], None]:
        return lambda result, known: self._hand.done(line)


def _delete_result(result: bytes) -> Result:
    answer = decode_delete(result)
    return answer.deleted, answer.revision
