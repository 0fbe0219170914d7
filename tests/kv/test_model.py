"""The whole state machine against a dict: whatever is done, in whatever order, both say the same."""

import operator
import struct
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from d_engine.format.state_machine import ApplyContext
from d_engine.kv import commands, lease_commands, queries, results
from d_engine.kv.holding import FOR_EVER, KEEP_LEASE, ON_LEASE, WITH_TTL
from d_engine.kv.key_value import KeyValue
from d_engine.kv.leases import Lease
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.store import StoreView
from d_engine.kv.transactions import (
    CREATE_REVISION,
    EQUAL,
    GREATER,
    MOD_REVISION,
    NOT_EQUAL,
    VALUE,
    VERSION,
    Condition,
    DeleteDone,
    DeleteRangeDone,
    DeleteRangeStep,
    DeleteStep,
    GetRangeStep,
    GetStep,
    Got,
    GotRange,
    HeldPutStep,
    PutDone,
    PutStep,
    Step,
    StepDone,
    Transaction,
    TransactionDone,
    objection,
)

SECOND = 1_000_000_000
HOLDS = st.tuples(st.integers(FOR_EVER, KEEP_LEASE), st.integers(1, 6))
KEYS = st.one_of(
    st.binary(max_size=2),
    st.integers(0, 3000).map(lambda number: b"key/%04d" % number),
)
VALUES = st.binary(max_size=3)
RELATIONS = (operator.eq, operator.ne, operator.lt, operator.gt)
RELATION = st.integers(EQUAL, GREATER)
TARGETS = st.sampled_from([VALUE, VERSION, MOD_REVISION])
ENDS = st.one_of(st.none(), KEYS)
STEPS = st.lists(
    st.one_of(
        st.builds(PutStep, KEYS, VALUES),
        st.builds(HeldPutStep, KEYS, VALUES, st.just(WITH_TTL), st.integers(1, 5).map(SECOND.__mul__)),
        st.builds(HeldPutStep, KEYS, VALUES, st.just(KEEP_LEASE), st.just(0)),
        st.builds(DeleteStep, KEYS),
        st.builds(DeleteRangeStep, KEYS, ENDS),
        st.builds(GetStep, KEYS),
        st.builds(GetRangeStep, KEYS, ENDS, st.integers(1, 5)),
    ),
    max_size=5,
).map(tuple)


@dataclass
class Model:
    """What the state machine should be, kept as simply as possible."""

    entries: dict[bytes, KeyValue] = field(default_factory=dict)
    revision: int = 0
    time: int = 0
    granted: int = 0
    leases: dict[int, Lease] = field(default_factory=dict)

    def copy(self) -> "Model":
        return Model(dict(self.entries), self.revision, self.time, self.granted, dict(self.leases))

    def put(self, key: bytes, value: bytes, lease: int = 0) -> KeyValue | None:
        self.revision += 1
        old = self.entries.get(key)
        created, version = (self.revision, 1) if old is None else (old.create_revision, old.version + 1)
        self.entries[key] = KeyValue(key, value, created, self.revision, version, lease)
        return old

    def held(self, key: bytes, hold: int, number: int) -> int:
        """The lease on which a key hangs that is put so."""
        if hold == WITH_TTL:
            return self.grant(number, single=True)
        if hold == KEEP_LEASE:
            return self.entries[key].lease if key in self.entries else 0
        return number if hold == ON_LEASE else 0

    def grant(self, ttl: int, single: bool = False) -> int:
        self.granted += 1
        self.leases[self.granted] = Lease(self.granted, ttl, self.time + ttl, single)
        return self.granted

    def end_lease(self, lease: int) -> int:
        del self.leases[lease]
        keys = [key for key, entry in self.entries.items() if entry.lease == lease]
        for key in keys:
            del self.entries[key]
        self.revision += bool(keys)
        return len(keys)

    def settle(self) -> None:
        """A lease that belongs to one key ends with it."""
        used = {entry.lease for entry in self.entries.values()}
        self.leases = {
            number: lease for number, lease in self.leases.items() if not lease.single or number in used
        }

    def delete(self, key: bytes) -> KeyValue | None:
        old = self.entries.pop(key, None)
        self.revision += old is not None
        return old

    def scan(self, prefix: bytes, after: bytes | None) -> list[KeyValue]:
        return [
            self.entries[key]
            for key in sorted(self.entries)
            if key.startswith(prefix) and (after is None or key > after)
        ]

    def keys(self, start: bytes, end: bytes | None) -> list[bytes]:
        return [key for key in sorted(self.entries) if start <= key and (end is None or key < end)]

    def delete_range(self, start: bytes, end: bytes | None) -> int:
        keys = self.keys(start, end)
        for key in keys:
            del self.entries[key]
        self.revision += bool(keys)
        return len(keys)

    def transact(self, transaction: Transaction) -> TransactionDone:
        """Do the steps one by one, then give all that was written the same revision."""
        succeeded = all(self.holds(condition) for condition in transaction.when)
        before, revision = dict(self.entries), self.revision + 1
        branch = transaction.then if succeeded else transaction.otherwise
        steps = [self.do(step, revision) for step in branch]
        self.revision = revision if self.entries != before else revision - 1
        return TransactionDone(succeeded, self.revision, tuple(steps))

    def holds(self, condition: Condition) -> bool:
        entry = self.entries.get(condition.key)
        actual: Any
        names = {VERSION: "version", MOD_REVISION: "mod_revision", CREATE_REVISION: "create_revision"}
        if condition.target == VALUE:
            if entry is None:
                return condition.relation == NOT_EQUAL
            actual = entry.value
        else:
            actual = 0 if entry is None else getattr(entry, names.get(condition.target, "lease"))
        relation = RELATIONS[condition.relation - 1]
        return bool(relation(actual, condition.operand))

    def do(self, step: Step, revision: int) -> StepDone:
        match step:
            case PutStep(key, value):
                self.revision = revision - 1
                self.put(key, value)
                return PutDone()
            case HeldPutStep(key, value, hold, number):
                self.revision = revision - 1
                self.put(key, value, self.held(key, hold, number))
                return PutDone()
            case DeleteStep(key):
                return DeleteDone(self.entries.pop(key, None) is not None)
            case DeleteRangeStep(start, end):
                return DeleteRangeDone(self.delete_range(start, end))
            case GetStep(key):
                return Got(self.entries.get(key))
            case GetRangeStep(start, end, limit):
                keys = self.keys(start, end)
                return GotRange(tuple(self.entries[key] for key in keys[:limit]), len(keys) > limit)


class LeasesAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.machine = KvStateMachine()
        self.model = Model()
        self.views: list[tuple[StoreView, Model]] = []

    @property
    def context(self) -> ApplyContext:
        return ApplyContext(1, 1, self.model.time)

    def apply(self, command: bytes) -> bytes:
        (result,) = self.machine.apply([command], self.context)
        return result

    @rule(key=KEYS, value=VALUES, hold=HOLDS)
    def put_held(self, key: bytes, value: bytes, hold: tuple[int, int]) -> None:
        kind, number = hold
        number = 0 if kind in (FOR_EVER, KEEP_LEASE) else number * SECOND if kind == WITH_TTL else number
        command = commands.encode_held_put(key, value, True, kind, number)
        assert commands.decode_command(command) == commands.Put(key, value, True, kind, number)
        result = self.apply(command)
        lease = self.model.leases.get(number)
        entry = self.model.entries.get(key)
        if kind == ON_LEASE and lease is None:
            assert result[2:17] == b"lease_not_found"
        elif kind == ON_LEASE and lease and lease.single and (entry is None or entry.lease != number):
            assert result.startswith(b"\xff")
        else:
            old = self.model.put(key, value, self.model.held(key, kind, number))
            assert results.decode_put(result) == results.PutResult(self.model.revision, old)

    @rule(ttl=st.integers(1, 6))
    def grant(self, ttl: int) -> None:
        granted = results.decode_granted(self.apply(lease_commands.encode_grant(ttl * SECOND)))
        assert granted == results.LeaseGranted(self.model.grant(ttl * SECOND), ttl * SECOND)

    @rule(leases=st.lists(st.integers(1, 6), min_size=1, max_size=3))
    def keep_alive(self, leases: list[int]) -> None:
        kept = results.decode_kept(self.apply(lease_commands.encode_keep_alive(leases)), len(leases))
        for number, ttl in zip(leases, kept, strict=True):
            lease = self.model.leases.get(number)
            assert ttl == (0 if lease is None else lease.ttl)
            if lease is not None:
                self.model.leases[number] = structs.replace(lease, deadline=self.model.time + lease.ttl)

    @rule(lease=st.integers(1, 6))
    def revoke(self, lease: int) -> None:
        result = self.apply(lease_commands.encode_revoke(lease))
        if lease in self.model.leases:
            assert results.decode_lease_ended(result) == self.model.end_lease(lease)
        else:
            assert result[2:17] == b"lease_not_found"

    @rule(lease=st.integers(1, 6), wrong=st.booleans())
    def expire(self, lease: int, wrong: bool) -> None:
        """Maybe too early, maybe with a deadline of long ago."""
        known = self.model.leases.get(lease)
        deadline = 1 if known is None or wrong else known.deadline
        result = self.apply(lease_commands.encode_expire(lease, deadline))
        if known is not None and not wrong and known.deadline <= self.model.time:
            assert results.decode_lease_ended(result) == self.model.end_lease(lease)
        else:
            assert result[0] == results.UNCHANGED

    @rule(seconds=st.integers(1, 3), proposed=st.booleans())
    def time_passes(self, seconds: int, proposed: bool) -> None:
        self.model.time += seconds * SECOND
        due = {lease.id for lease in self.model.leases.values() if lease.deadline <= self.model.time}
        commands_due = self.machine.due(self.model.time)
        assert {struct.unpack_from("<Q", command, 2)[0] for command in commands_due} == due
        if proposed:
            self.machine.apply(commands_due, self.context)
            for lease in sorted(due, key=lambda number: (self.model.leases[number].deadline, number)):
                self.model.end_lease(lease)

    @invariant()
    def leases_agree(self) -> None:
        self.model.settle()
        table = self.machine.store.leases
        assert table.freeze() == (self.model.granted, tuple(self.model.leases.values()))
        assert table.deadline == min((lease.deadline for lease in self.model.leases.values()), default=None)
        attached = {key: entry.lease for key, entry in self.model.entries.items() if entry.lease}
        assert {key: lease for lease in self.model.leases for key in table.keys_of(lease)} == attached


class StoreAgainstModel(LeasesAgainstModel):
    @rule(key=KEYS, value=VALUES, want_previous=st.booleans())
    def put(self, key: bytes, value: bytes, want_previous: bool) -> None:
        old = self.model.put(key, value)
        result = results.decode_put(self.apply(commands.encode_put(key, value, want_previous)))
        assert result == results.PutResult(self.model.revision, old if want_previous else None)

    @rule(first=st.integers(0, 3000), count=st.integers(1, 1500), step=st.sampled_from([1, 7]))
    def put_many(self, first: int, count: int, step: int) -> None:
        keys = [b"key/%04d" % (first + step * number) for number in range(count)]
        self.machine.apply([commands.encode_put(key, b"many") for key in keys], self.context)
        for key in keys:
            self.model.put(key, b"many")

    @rule(first=st.integers(0, 3000), count=st.integers(1, 1500), step=st.sampled_from([1, 7, -1]))
    def delete_many(self, first: int, count: int, step: int) -> None:
        keys = [b"key/%04d" % (first + step * number) for number in range(count)]
        self.machine.apply([commands.encode_delete(key) for key in keys], self.context)
        for key in keys:
            self.model.delete(key)

    @rule(key=KEYS, want_previous=st.booleans())
    def delete(self, key: bytes, want_previous: bool) -> None:
        old = self.model.delete(key)
        result = results.decode_delete(self.apply(commands.encode_delete(key, want_previous)))
        previous = old if want_previous else None
        assert result == results.DeleteResult(self.model.revision, old is not None, previous)

    @rule(key=KEYS, guess=st.one_of(st.none(), VALUES), right=st.booleans(), value=VALUES)
    def compare_and_swap(self, key: bytes, guess: bytes | None, right: bool, value: bytes) -> None:
        old = self.model.entries.get(key)
        held = None if old is None else old.value
        expected = held if right else guess
        if held == expected:
            self.model.put(key, value)
        answer = self.apply(commands.encode_compare_and_swap(key, expected, value))
        assert results.decode_compare_and_swap(answer) == results.CompareAndSwapResult(
            self.model.revision, held == expected
        )

    @rule(start=KEYS, end=st.one_of(st.none(), KEYS))
    def delete_range(self, start: bytes, end: bytes | None) -> None:
        count = self.model.delete_range(start, end)
        result = results.decode_delete_range(self.apply(commands.encode_delete_range(start, end)))
        assert result == results.DeleteRangeResult(self.model.revision, count)

    @rule(data=st.data(), then=STEPS, otherwise=STEPS)
    def transact(self, data: st.DataObject, then: tuple[Step, ...], otherwise: tuple[Step, ...]) -> None:
        conditions = st.lists(st.builds(self.condition, KEYS, TARGETS, RELATION, VALUES, st.integers(-1, 1)))
        transaction = Transaction(tuple(data.draw(conditions)), then, otherwise)
        command = commands.encode_transaction(transaction)
        if objection(transaction) is not None:
            assert self.apply(command).startswith(b"\xff")
            return
        done = results.decode_transaction_done(self.apply(command), transaction)
        assert done == self.model.transact(transaction)
        assert self.machine.store.epoch % 2 == 0

    def condition(self, key: bytes, target: int, relation: int, value: bytes, offset: int) -> Condition:
        """One that is near the truth."""
        entry = self.model.entries.get(key)
        if target == VALUE:
            operand = value if entry is None or offset else entry.value
            return Condition(key, target, relation, operand)
        number = 0 if entry is None else entry.version if target == VERSION else entry.mod_revision
        return Condition(key, target, relation, max(0, number + offset))

    @rule(keys=st.lists(KEYS, max_size=4))
    def get(self, keys: list[bytes]) -> None:
        answer = queries.decode_entries(self.machine.query(queries.encode_get_entries(keys)))
        assert answer == queries.Entries(self.model.revision, tuple(map(self.model.entries.get, keys)))

    @rule(
        prefix=st.sampled_from([b"", b"k", b"key/", b"key/1", b"\x00", b"\xff"]),
        limit=st.integers(0, 5),
        after=st.one_of(st.none(), KEYS),
    )
    def scan(self, prefix: bytes, limit: int, after: bytes | None) -> None:
        query = queries.encode_scan_prefix(prefix, limit, after)
        answer = queries.decode_scan(self.machine.query(query))
        found = self.model.scan(prefix, after)
        expected = found[:limit] if limit else found
        assert answer == queries.Scan(self.model.revision, tuple(expected), len(expected) < len(found))

    @rule(
        start=KEYS,
        end=st.one_of(st.none(), KEYS),
        limit=st.integers(0, 5),
        reverse=st.booleans(),
        keys_only=st.booleans(),
    )
    def get_range(self, start: bytes, end: bytes | None, limit: int, reverse: bool, keys_only: bool) -> None:
        query = queries.encode_get_range(start, end, limit, reverse, keys_only)
        answer = queries.decode_scan(self.machine.query(query))
        found = [self.model.entries[key] for key in self.model.keys(start, end)]
        if reverse:
            found.reverse()
        expected = found[:limit] if limit else found
        if keys_only:
            expected = [structs.replace(entry, value=b"") for entry in expected]
        assert answer == queries.Scan(self.model.revision, tuple(expected), len(expected) < len(found))
        count = queries.decode_count(self.machine.query(queries.encode_count_range(start, end)))
        assert count == queries.Count(self.model.revision, len(found))

    @rule()
    def take_view(self) -> None:
        if len(self.views) < 3:
            self.views.append((self.machine.view(), self.model.copy()))

    @rule(prefix=st.sampled_from([b"", b"key/1"]), after=st.one_of(st.none(), KEYS))
    def check_oldest_view(self, prefix: bytes, after: bytes | None) -> None:
        if self.views:
            view, model = self.views.pop(0)
            assert (view.revision, view.count) == (model.revision, len(model.entries))
            assert list(view.scan(prefix, after)) == model.scan(prefix, after)

    @rule(size=st.integers(1, 5000))
    def restore_oldest_view(self, size: int) -> None:
        """From now on with a machine that was restored from the view."""
        if self.views:
            view, self.model = self.views.pop(0)
            stream = b"".join(self.machine.chunks(view))
            self.machine = KvStateMachine()
            self.machine.restore(stream[at : at + size] for at in range(0, len(stream), size))

    @rule(count=st.integers(0, 1000))
    def restored_state_equals_this_one(self, count: int) -> None:
        """Whatever the other held before, and however both came to be."""
        other = KvStateMachine()
        other.apply([commands.encode_put(b"other/%d" % number, b"") for number in range(count)], self.context)
        other.restore(self.machine.chunks(self.machine.view()))
        assert other.digest() == self.machine.digest()
        assert other.store.count == self.machine.store.count

    @invariant()
    def revision_and_count_agree(self) -> None:
        assert self.machine.revision == self.model.revision
        assert self.machine.store.count == len(self.model.entries)

    def teardown(self) -> None:
        assert list(self.machine.store.scan()) == self.model.scan(b"", None)
        for view, model in self.views:
            assert list(view.scan()) == model.scan(b"", None)


StoreAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_store_against_model = StoreAgainstModel.TestCase
