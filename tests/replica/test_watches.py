"""Watches on a node (docs/design/watches.md): ordered, no gap, whole revisions, progress that is true (I10)."""

import random

import pytest

from d_engine.format.errors import (
    CompactedError,
    EngineStoppedError,
    InvalidRequestError,
    WatchLaggedError,
    WatchLimitError,
)
from d_engine.kv.commands import encode_delete, encode_delete_range, encode_put, encode_transaction
from d_engine.kv.events import Event, event_of
from d_engine.kv.history import HISTORY_BYTES
from d_engine.kv.ranges import prefix_end
from d_engine.kv.transactions import PutStep, Transaction
from d_engine.kv.watching import (
    Selection,
    decode_events,
    decode_selection,
    encode_events,
    encode_selection,
    select,
)
from d_engine.replica.settings import SECOND, WatchSettings
from d_engine.replica.watch_index import WatchIndex
from tests.replica.watching import EVERYTHING, Node, Owner, one


def put(number: int, size: int = 0) -> bytes:
    return encode_put(b"k%d" % number, bytes(size))


def keys(events: list[Event]) -> list[bytes]:
    return [event.key for event in events]


# --- from now on -----------------------------------------------------------------------------------------------------


def test_one_message_for_a_batch_and_none_for_what_is_not_wanted() -> None:
    node, owner = Node(), Owner()
    node.write(put(1))
    assert node.watches.open(owner, 7, one(b"k2"), None) == 1
    node.write(put(1), put(2), put(3), put(2))
    assert owner.messages == {
        7: [(5, [Event(b"k2", b"", "put", 3, 3, 1), Event(b"k2", b"", "put", 5, 3, 2)])]
    }
    node.write(put(1), put(3))
    assert len(owner.messages[7]) == 1
    assert owner.marks == {}


def test_kinds_and_previous() -> None:
    node, owner = Node(), Owner()
    node.watches.open(owner, 1, Selection(b"", None, puts=True, deletes=False), None)
    node.watches.open(owner, 2, Selection(b"", None, puts=False, deletes=True, previous=True), None)
    node.write(encode_put(b"a", b"1"), encode_delete(b"a"), encode_delete(b"a"))
    assert owner.told(1) == [Event(b"a", b"1", "put", 1, 1, 1)]
    (gone,) = owner.told(2)
    assert (gone.kind, gone.revision) == ("delete", 2)
    assert gone.previous is not None
    assert gone.previous.value == b"1"


def test_a_watch_of_the_future_waits() -> None:
    node, owner = Node(), Owner()
    assert node.watches.open(owner, 1, EVERYTHING, 3) == 3
    node.write(put(1), put(2), put(3), put(4))
    assert keys(owner.told(1)) == [b"k4"]
    node.watches.ask_progress(owner, 1)
    assert owner.marks == {1: [4]}
    node.watches.open(owner, 2, EVERYTHING, 100)
    node.watches.ask_progress(owner, 2)
    assert owner.marks[2] == [100], "a mark never falls behind what the watch has asked for"


def test_progress_is_told_every_so_often_and_on_request() -> None:
    node, owner = Node(WatchSettings(progress_ns=10 * SECOND)), Owner()
    node.watches.open(owner, 1, one(b"a"), None)
    node.watches.open(owner, 2, one(b"b"), None)
    assert node.watches.deadline == 10 * SECOND
    node.write(put(1), put(2))
    assert owner.marks == {}
    node.watches.ask_progress(owner, 1)
    assert owner.marks == {1: [2]}
    node.time = 10 * SECOND
    node.write(put(3))
    assert owner.marks == {1: [2, 3], 2: [3]}
    assert node.watches.deadline == 20 * SECOND
    node.watches.close(owner)
    node.settle()
    assert node.watches.deadline is None, "nobody is left to be told"


# --- from the past ---------------------------------------------------------------------------------------------------


def test_since_replays_from_behind_that_revision() -> None:
    node, owner = Node(), Owner()
    node.write(put(1), put(2))
    node.write(put(3))
    for number, since in enumerate((0, 1, 2, 3)):
        assert node.watches.open(owner, number, EVERYTHING, since) == since
    node.settle()
    assert keys(owner.told(0)) == [b"k1", b"k2", b"k3"]
    assert keys(owner.told(1)) == [b"k2", b"k3"]
    assert keys(owner.told(2)) == [b"k3"]
    assert owner.told(3) == []
    assert [owner.revision(number) for number in (0, 1, 2)] == [3, 3, 3]


def test_what_is_not_kept_any_more_is_said_at_once() -> None:
    node, owner = Node(WatchSettings(history_bytes=1000)), Owner()
    for number in range(5):
        node.write(put(number, 100))
    oldest = node.watches.span.oldest
    assert 0 < oldest < 5
    with pytest.raises(CompactedError, match=f"begin behind revision {oldest}") as caught:
        node.watches.open(owner, 1, EVERYTHING, oldest - 1)
    assert caught.value.oldest == oldest
    node.watches.open(owner, 1, EVERYTHING, oldest)
    node.settle()
    assert keys(owner.told(1)) == [b"k%d" % number for number in range(oldest, 5)]
    assert node.watches.compacted == 1


# --- those who take their time ---------------------------------------------------------------------------------------


def test_who_does_not_take_gets_no_more_and_misses_nothing() -> None:
    node, owner = Node(WatchSettings(window_bytes=1000)), Owner()
    node.watches.open(owner, 1, EVERYTHING, None)
    node.watches.open(owner, 2, EVERYTHING, None)
    taken = 0
    for number in range(100):
        node.write(put(number, 100))
        taken = node.take_all(owner, 2, taken)
    assert len(owner.told(1)) < 10
    assert len(owner.told(2)) == 100
    assert node.watches.watchers.stalled == 1
    taken = 0
    while len(owner.told(1)) < 100:
        node.woken = False
        taken = node.take_all(owner, 1, taken)
        assert node.woken
        node.settle()
    assert owner.told(1) == owner.told(2)
    assert owner.revision(1) == 100
    assert node.watches.watchers.stalled == 0


def test_who_is_too_slow_is_told_up_to_where_it_knows() -> None:
    node, owner = Node(WatchSettings(window_bytes=1000, history_bytes=5000)), Owner()
    node.watches.open(owner, 1, EVERYTHING, None)
    for number in range(100):
        node.write(put(number, 100))
    before = owner.told(1)
    node.take_all(owner, 1)
    node.settle()
    error = owner.errors[1]
    assert isinstance(error, WatchLaggedError)
    assert error.last_revision == owner.revision(1) == before[-1].revision
    assert owner.told(1) == before
    assert (node.watches.lagged, node.watches.watchers.count) == (1, 0)


def test_an_owner_has_a_window_for_all_its_watches() -> None:
    node, owner, other = Node(WatchSettings(window_bytes=1000, owner_bytes=2000)), Owner(), Owner()
    for number in range(4):
        node.watches.open(owner, number, EVERYTHING, None)
    node.watches.open(other, 0, EVERYTHING, None)
    node.write(put(1, 900))
    assert [len(owner.told(number)) for number in range(4)] == [1, 1, 1, 0]
    assert len(other.told(0)) == 1
    node.watches.close(owner, 0)
    node.settle()
    assert len(owner.told(3)) == 1, "what it had not taken counts no more when a watch is over"


def test_a_revision_larger_than_everything_comes_in_parts() -> None:
    node, owner = Node(WatchSettings(window_bytes=2000, slice_writes=64)), Owner()
    node.write(*(put(number) for number in range(300)))
    node.watches.open(owner, 1, EVERYTHING, None)
    node.watches.open(owner, 2, one(b"k0"), None)
    node.apply(encode_delete_range(b"", None), put(1))
    taken = 0
    while len(owner.told(1)) < 301:
        node.settle()
        for revision, events in owner.messages[1]:
            assert events[-1].revision in (revision, revision + 1)
        taken = node.take_all(owner, 1, taken)
    assert [event.revision for event in owner.told(1)] == [301] * 300 + [302]
    assert owner.messages[1][0][0] == 300
    assert owner.revision(1) == 302
    # Of a revision that has more to come, the first part is not said to be all of it.
    assert [revision for revision, _ in owner.messages[2]] == [300]
    assert owner.revision(2) >= 301


# --- ends ------------------------------------------------------------------------------------------------------------


def test_a_state_that_was_replaced_ends_the_watches_that_it_leaves_behind() -> None:
    node, other, owner = Node(), Node(), Owner()
    node.write(put(1))
    other.write(*(put(number) for number in range(5)))
    node.watches.open(owner, 1, EVERYTHING, None)
    node.watches.open(owner, 2, EVERYTHING, 5)
    node.machine.restore(other.machine.chunks(other.machine.view()))
    node.settle()
    error = owner.errors[1]
    assert isinstance(error, CompactedError)
    assert error.oldest == 5
    node.write(put(9))
    assert keys(owner.told(2)) == [b"k9"], "it had asked for nothing of what was skipped"
    assert 2 not in owner.errors


def test_the_same_state_again_ends_nothing() -> None:
    node, owner = Node(), Owner()
    node.write(put(1))
    node.watches.open(owner, 1, EVERYTHING, None)
    node.machine.restore(node.machine.chunks(node.machine.view()))
    node.settle()
    node.write(put(2))
    assert keys(owner.told(1)) == [b"k2"]


def test_limits_and_closing() -> None:
    node, owner, other = Node(WatchSettings(max_watches=3, max_per_owner=2)), Owner(), Owner()
    node.watches.open(owner, 1, EVERYTHING, None)
    with pytest.raises(InvalidRequestError, match="number 1 already"):
        node.watches.open(owner, 1, EVERYTHING, None)
    node.watches.open(owner, 2, one(b"a"), None)
    with pytest.raises(WatchLimitError, match="max_watches_per_client"):
        node.watches.open(owner, 3, EVERYTHING, None)
    node.watches.open(other, 1, EVERYTHING, None)
    with pytest.raises(WatchLimitError, match=r"limits\.max_watches\)"):
        node.watches.open(other, 2, EVERYTHING, None)
    node.watches.close(owner, 1)
    node.watches.close(owner, 1)
    node.watches.take(owner, 1, 100)
    node.watches.ask_progress(owner, 1)
    node.watches.close(other)
    node.write(encode_put(b"a", b""))
    assert keys(owner.told(2)) == [b"a"]
    assert (owner.told(1), other.told(1)) == ([], [])
    assert node.watches.watchers.count == 1


def test_a_node_that_stops_tells_everybody() -> None:
    node, owner = Node(), Owner()
    node.watches.open(owner, 1, EVERYTHING, None)
    node.watches.open(owner, 2, one(b"a"), None)
    node.watches.fail(EngineStoppedError())
    assert [type(error) for error in owner.errors.values()] == [EngineStoppedError] * 2
    assert node.watches.watchers.count == 0


# --- all of it, by chance --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_every_watch_is_told_the_truth(seed: int) -> None:
    rng = random.Random(seed)
    settings = WatchSettings(
        history_bytes=rng.choice((4_000, 20_000, HISTORY_BYTES)),
        window_bytes=rng.choice((100, 1000, 100_000)),
        owner_bytes=rng.choice((500, 5000, 100_000)),
        slice_writes=rng.choice((4, 32, 4096)),
    )
    node, owner = Node(settings), Owner()
    everything: list[Event] = []
    opened: dict[int, tuple[Selection, int]] = {}
    taken: dict[int, int] = {}
    for step in range(300):
        dice = rng.random()
        if dice < 0.5:
            node.apply(*(_command(rng) for _ in range(rng.randint(1, 6))))
            history = node.machine.history
            number = history.number_after(everything[-1].revision if everything else 0)
            while (part := history.read(number, 1000)).writes:
                everything += [event_of(write, True) for write in part.writes]
                number = part.number
        elif dice < 0.6 and len(opened) < 30:
            selection = _selection(rng)
            since = rng.choice((None, rng.randint(0, node.machine.revision + 3)))
            if since is None or since >= node.machine.history.oldest:
                opened[step] = (selection, node.watches.open(owner, step, selection, since))
            else:
                with pytest.raises(CompactedError):
                    node.watches.open(owner, step, selection, since)
        elif dice < 0.8 and opened:
            watch = rng.choice(list(opened))
            taken[watch] = node.take_all(owner, watch, taken.get(watch, 0))
        elif dice < 0.9:
            node.watches.run(node.time)
        else:
            node.settle()
        if step % 10 == 0:
            _compare(node, owner, opened, everything)
    before = None
    while before != taken:
        before = taken.copy()
        node.settle()
        for watch in opened:
            taken[watch] = node.take_all(owner, watch, taken.get(watch, 0))
    _compare(node, owner, opened, everything)
    for watch, (_, after) in opened.items():
        if watch not in owner.errors:
            node.watches.ask_progress(owner, watch)
            assert owner.revision(watch) == max(node.machine.revision, after)
    assert node.watches.watchers.stalled == 0


def _command(rng: random.Random) -> bytes:
    key = b"%d" % rng.randrange(30)
    dice = rng.random()
    if dice < 0.6:
        return encode_put(key, bytes(rng.randrange(50)))
    if dice < 0.8:
        return encode_delete(key)
    if dice < 0.9:
        return encode_delete_range(key, b"%d" % rng.randrange(30))
    steps = tuple(PutStep(b"%d" % key, b"") for key in rng.sample(range(30), 5))
    return encode_transaction(Transaction((), steps, ()))


def _selection(rng: random.Random) -> Selection:
    key = b"%d" % rng.randrange(30)
    end = rng.choice((key + b"\x00", prefix_end(key), key + b"5", None))
    return Selection(key, end, *rng.choice(((True, True), (True, False), (False, True))), rng.random() < 0.5)


def _compare(
    node: Node, owner: Owner, opened: dict[int, tuple[Selection, int]], everything: list[Event]
) -> None:
    for watch, (selection, after) in opened.items():
        told = owner.told(watch)
        expected = [
            event
            for event in everything
            if event.revision > after
            and selection.has(event.key)
            and (selection.puts if event.kind == "put" else selection.deletes)
        ]
        if not selection.previous:
            expected = [_without_previous(event) for event in expected]
        assert told == expected[: len(told)]
        revision = owner.revision(watch)
        assert revision <= max(node.machine.revision, after)
        assert len(told) >= len([event for event in expected if event.revision <= revision])
        error = owner.errors.get(watch)
        if isinstance(error, WatchLaggedError):
            assert error.last_revision >= revision


def _without_previous(event: Event) -> Event:
    return Event(
        event.key, event.value, event.cause, event.revision, event.create_revision, event.version, event.lease
    )


# --- parts -----------------------------------------------------------------------------------------------------------


class _Selecting:
    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.closed = False


@pytest.mark.parametrize("seed", range(20))
def test_the_index_finds_whom_a_key_concerns(seed: int) -> None:
    rng = random.Random(seed)
    index: WatchIndex[_Selecting] = WatchIndex()
    held: list[_Selecting] = []
    alphabet = range(ord("a"), ord("d"))
    words = [bytes(rng.choices(alphabet, k=rng.randint(0, 4))) for _ in range(60)]
    node = Node()
    node.apply(*(encode_put(word, b"") for word in words))
    writes = node.machine.history.read(0, 1000).writes
    for _ in range(400):
        if rng.random() < 0.6:
            start = rng.choice(words)
            end = rng.choice((start + b"\x00", prefix_end(start), max(start, rng.choice(words)) + b"b", None))
            held.append(_Selecting(Selection(start, end)))
            index.add(held[-1])
        elif held:
            gone = held.pop(rng.randrange(len(held)))
            gone.closed = True
            index.remove(gone)
        candidates = index.candidates(writes)
        for write in rng.sample(writes, 5):
            key = write[0].key
            expected = [watcher for watcher in held if watcher.selection.has(key)]
            found = index.find(key)
            assert len(found) == len(expected)
            assert set(found) == set(expected)
            assert write in candidates or not expected


def test_what_concerns_nobody_is_no_candidate() -> None:
    index: WatchIndex[_Selecting] = WatchIndex()
    for number in range(200):
        start = b"p%03d" % number
        index.add(_Selecting(Selection(start, prefix_end(start))))
        index.add(_Selecting(one(b"q%03d" % number)))
    node = Node()
    node.apply(*(encode_put(key, b"") for key in (b"p", b"p199", b"p2", b"q", b"q000", b"q0000", b"r")))
    writes = node.machine.history.read(0, 1000).writes
    assert [write[0].key for write in index.candidates(writes)] == [b"p199", b"q000"]


def test_selections_and_events_survive_the_wire() -> None:
    selection = select(b"a", b"b", ("delete",), True)
    assert decode_selection(encode_selection(selection)) == selection
    node = Node()
    node.apply(encode_put(b"a", b"1"), encode_put(b"a", b""), encode_delete(b"a"))
    events = [event_of(write, True) for write in node.machine.history.read(0, 9).writes]
    assert list(decode_events(encode_events(events))) == events


@pytest.mark.parametrize("kinds", [(), ("expired",), "put", ("put", "move")])
def test_kinds_that_do_not_exist_are_refused(kinds: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequestError, match="kinds of a watch"):
        select(b"", None, kinds)  # type: ignore[arg-type]


def test_a_range_that_holds_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="would see nothing"):
        select(b"b", b"a")
