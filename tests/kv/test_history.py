"""The event history: what the store's writes leave for watchers (docs/design/watches.md, "History")."""

import gc
import random

import pytest

from d_engine.format.state_machine import ApplyContext
from d_engine.kv.commands import (
    encode_compare_and_swap,
    encode_delete,
    encode_delete_range,
    encode_put,
    encode_transaction,
)
from d_engine.kv.events import Event, Write, event_of
from d_engine.kv.history import RUN_BYTES, WRITE_BYTES, History, Span, Watchable
from d_engine.kv.key_value import KeyValue
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.transactions import DeleteStep, PutStep, Transaction

SECOND = 1_000_000_000


def apply(machine: KvStateMachine, *commands: bytes, log_time: int = 0) -> None:
    machine.apply(commands, ApplyContext(1, 1, log_time))


def read_all(history: History, number: int | None = None, limit: int = 1000) -> list[Write]:
    at = history.first_number if number is None else number
    found: list[Write] = []
    while (part := history.read(at, limit)).writes:
        found += part.writes
        at = part.number
    return found


def test_each_kind_of_write_leaves_its_event() -> None:
    machine = KvStateMachine()
    apply(
        machine,
        encode_put(b"a", b"1"),
        encode_put(b"a", b""),
        encode_delete(b"a"),
        encode_delete(b"a"),
        encode_compare_and_swap(b"b", None, b"2"),
        encode_compare_and_swap(b"b", b"no", b"3"),
    )
    events = [event_of(write, True) for write in read_all(machine.history)]
    assert events == [
        Event(b"a", b"1", "put", 1, 1, 1, 0, None),
        Event(b"a", b"", "put", 2, 1, 2, 0, KeyValue(b"a", b"1", 1, 1, 1)),
        Event(b"a", None, "deleted", 3, 0, 0, 0, KeyValue(b"a", b"", 1, 2, 2)),
        Event(b"b", b"2", "put", 4, 4, 1, 0, None),
    ]
    assert [event.kind for event in events] == ["put", "put", "delete", "put"]
    assert event_of(read_all(machine.history)[1], False).previous is None
    assert isinstance(machine, Watchable)


def test_writes_are_no_work_for_the_garbage_collector() -> None:
    machine = KvStateMachine()
    apply(machine, *(encode_put(b"%d" % number, b"1") for number in range(2000)))
    gc.collect()
    before = len(gc.get_objects())
    for value in range(5):
        apply(machine, *(encode_put(b"%d" % number, b"%d" % value) for number in range(2000)))
    gc.collect()
    assert machine.history.number == 12_000
    assert len(gc.get_objects()) - before < 100


def test_a_key_that_expired_says_so() -> None:
    machine = KvStateMachine()
    apply(machine, encode_put(b"a", b"1"), encode_put(b"b", b"2"))
    store = machine.store
    store.begin_change()
    assert store.delete_in_change(b"a", "expired")
    assert not store.delete_in_change(b"absent", "expired")
    store.end_change(True)
    store.delete(b"b", "expired")
    store.history.seal(store.revision, 0, 0)
    events = [event_of(write, False) for write in read_all(store.history)[2:]]
    assert events == [Event(b"a", None, "expired", 3), Event(b"b", None, "expired", 4)]
    assert {event.kind for event in events} == {"delete"}


def test_a_transaction_and_a_range_are_one_revision() -> None:
    machine = KvStateMachine()
    steps = (PutStep(b"b", b"2"), PutStep(b"c", b"3"), DeleteStep(b"a"), DeleteStep(b"absent"))
    apply(machine, encode_put(b"a", b"1"), encode_transaction(Transaction((), steps, ())))
    apply(machine, encode_delete_range(b"", None))
    writes = tuple(read_all(machine.history))
    assert [(write[0].key, write[0].mod_revision) for write in writes] == [
        (b"a", 1),
        (b"b", 2),
        (b"c", 2),
        (b"a", 2),
        (b"b", 3),
        (b"c", 3),
    ]
    # However it is cut, a part says which revision is complete with it.
    number = machine.history.number_after(1)
    assert machine.history.read(number, 2) == (writes[1:3], number + 2, 1, False)
    assert machine.history.read(number, 3) == (writes[1:4], number + 3, 2, True)
    assert machine.history.read(number + 3, 1) == (writes[4:5], number + 4, 2, False)
    assert machine.history.read(number + 5, 9) == ((), number + 5, 3, True)


def test_what_it_holds_is_bounded_by_weight() -> None:
    machine = KvStateMachine()
    history = machine.history
    history.limit_bytes = 10_000
    for number in range(100):
        apply(machine, encode_put(b"k", b"v" * 500), log_time=number * SECOND)
    one = RUN_BYTES + WRITE_BYTES + len(encode_put(b"k", b"v" * 500)) + 500
    held = 10_000 // one
    assert history.span == Span(100 - held, 100, held * one, held - 1.0)
    assert [write[0].mod_revision for write in read_all(history)] == list(range(101 - held, 101))
    assert history.number_after(history.oldest) == history.first_number
    # One alone is kept whatever it weighs, until the next comes.
    apply(machine, encode_put(b"k", b"v" * 20_000))
    assert history.oldest == 100
    assert len(read_all(history)) == 1
    apply(machine, encode_put(b"k", b""))
    assert history.oldest == 101, "the replaced entry weighs too"
    apply(machine, encode_put(b"k", b""))
    assert (history.oldest, history.size_bytes) == (102, RUN_BYTES + WRITE_BYTES + 5)


def test_a_restored_state_has_no_past() -> None:
    machine, other = KvStateMachine(), KvStateMachine()
    apply(machine, encode_put(b"a", b"1"), encode_put(b"b", b"2"))
    apply(other, encode_put(b"z", b"9"))
    before = other.history.number
    other.restore(machine.chunks(machine.view()))
    history = other.history
    assert history.span == Span(2, 2, 0, 0.0)
    assert history.first_number > before, "a reader that was at the end must notice"
    apply(other, encode_put(b"c", b"3"))
    assert [event_of(write, True) for write in read_all(history)] == [Event(b"c", b"3", "put", 3, 3, 1)]


def test_the_digest_does_not_depend_on_it() -> None:
    one, other = KvStateMachine(), KvStateMachine()
    other.history.limit_bytes = 0
    for machine in (one, other):
        for number in range(10):
            apply(machine, encode_put(b"k", b"%d" % number))
    assert one.history.oldest != other.history.oldest
    assert one.digest() == other.digest()


@pytest.mark.parametrize("seed", range(20))
def test_reading_on_is_reading_everything(seed: int) -> None:
    """Whatever is applied in between, and however small the parts: every write once, in order, or none at all once it
    is gone. The events lead from any state to the next one."""
    rng = random.Random(seed)
    machine = KvStateMachine()
    history = machine.history
    history.limit_bytes = rng.choice((2_000, 20_000, 1_000_000))
    number, seen, state = 0, 0, dict[bytes, bytes]()
    for _ in range(200):
        commands = [
            encode_put(b"%d" % rng.randrange(9), bytes(rng.randrange(30)))
            if rng.random() < 0.7
            else encode_delete(b"%d" % rng.randrange(9))
            for _ in range(rng.randint(1, 5))
        ]
        apply(machine, *commands)
        while rng.random() < 0.7:
            if number < history.first_number:
                number, seen = history.first_number, history.oldest
                state = {}
                break
            part = history.read(number, rng.randint(1, 4))
            for write in part.writes:
                event = event_of(write, True)
                assert event.revision > seen
                seen = event.revision
                if event.key in state:
                    assert event.previous is not None
                    assert event.previous.value == state.pop(event.key)
                if event.value is not None:
                    state[event.key] = event.value
            number = part.number
            assert part.complete
            assert seen <= part.revision <= machine.revision
            assert history.number_after(part.revision) == number
    assert history.newest == machine.revision
