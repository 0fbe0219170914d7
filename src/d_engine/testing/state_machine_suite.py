"""What every `StateMachine` must keep, as tests that a test class inherits.

    from d_engine.testing.state_machine_suite import StateMachineSuite

    class TestCounters(StateMachineSuite):
        def make(self) -> Counters:
            return Counters()

        def command(self, rng: Random) -> bytes:
            return rng.choice((b"apples", b"pears"))

pytest collects the inherited tests; any other runner can call the methods whose names begin with `test_`. Each makes
its own state machines. Nothing is left to chance but what `seeds` draw. A failure is a `NotConforming`, an
`AssertionError` whose text names the rule; what the state machine itself raises comes through.

The rules are those of `d_engine.format.state_machine`. What the suite cannot see is a clock, or anything else from
outside, that a state machine looks at: give it to `d_engine.testing.simulate` too, which compares replicas under
faults.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from random import Random

from d_engine.format.errors import DEngineError
from d_engine.format.state_machine import (
    ApplyContext,
    GradualStateMachine,
    ReleasableView,
    Replacement,
    StateMachine,
    TimedStateMachine,
)
from d_engine.testing.demands import demand

_SECOND = 1_000_000_000
LARGEST_PIECE_BYTES = 1024 * 1024
"""A piece is made without a pause: while it is made, nothing else happens on its thread."""


class _SourceFails(Exception):  # noqa: N818 - stands for any error of whoever reads a snapshot
    """The source of a snapshot ends with an error."""


class _Life:
    """Commands with contexts as a log would give them, the same from the same seed."""

    def __init__(self, suite: "StateMachineSuite", seed: int) -> None:
        self._suite = suite
        self._rng = Random(seed)
        self._index = 0
        self._log_time = _SECOND

    def steps(self, count: int) -> Iterator[tuple[list[bytes], ApplyContext]]:
        rng = self._rng
        for _ in range(count):
            self._index += rng.randrange(1, 3)
            self._log_time += rng.randrange(0, 2 * _SECOND)
            commands = [self._suite.command(rng) for _ in range(rng.randrange(0, 5))]
            yield commands, ApplyContext(self._index, 1 + self._index // 50, self._log_time)


class StateMachineSuite:
    """Inherit, and define `make` and `command`; `query` too, if there is more to ask than b""."""

    seeds: Sequence[int] = (1, 2, 3)
    """Each test is run for each of them."""
    steps = 60
    """Groups of commands before a test looks."""

    def make(self) -> StateMachine:
        """A new one, without any state."""
        raise NotImplementedError("define make(), which returns a new state machine")

    def command(self, rng: Random) -> bytes:
        """A command that makes sense; the same from an equal generator. Draw from few keys, so that commands meet."""
        raise NotImplementedError("define command(rng), which returns a command")

    def query(self, rng: Random) -> bytes:
        """A query that makes sense."""
        return b""

    # --- the rules ----------------------------------------------------------------------------------------------------

    def test_the_same_commands_give_the_same_results_and_state(self) -> None:
        """Replicas agree because `apply` depends on nothing but the commands and their context."""
        for seed in self.seeds:
            one, other = self.make(), self.make()
            demand(one.digest() == other.digest(), "two new state machines have different digests")
            for commands, context in _Life(self, seed).steps(self.steps):
                results = one.apply(commands, context)
                demand(
                    results == other.apply(commands, context),
                    f"one result of {commands} differs from the other",
                )
                demand(one.revision == other.revision, "the revisions differ after the same commands")
            self._demand_equal(one, other, "the same commands")

    def test_each_command_has_one_result(self) -> None:
        """In order, and as bytes: clients find their results by position."""
        for seed in self.seeds:
            machine = self.make()
            for commands, context in _Life(self, seed).steps(self.steps):
                results = machine.apply(commands, context)
                demand(len(results) == len(commands), f"{len(commands)} commands have {len(results)} results")
                demand(all(isinstance(result, bytes) for result in results), f"not all bytes: {results}")

    def test_no_bytes_make_it_raise(self) -> None:
        """What a client sends is in the log for ever; a command that raises would stop every replica, again and again.
        A command that cannot be read gets a result that says so, the same everywhere."""
        for seed in self.seeds:
            one, other, rng = self.make(), self.make(), Random(seed)
            for commands, context in _Life(self, seed).steps(self.steps):
                bad = [
                    _spoilt(command, rng) for command in (*commands, b"", rng.randbytes(rng.randrange(40)))
                ]
                results = one.apply(bad, context)
                demand(len(results) == len(bad), f"{len(bad)} commands have {len(results)} results")
                demand(results == other.apply(bad, context), f"one result of {bad} differs from the other")
            self._demand_equal(one, other, "the same unreadable commands")

    def test_the_revision_never_falls(self) -> None:
        """Clients order what they read by it."""
        for seed in self.seeds:
            machine = self.make()
            before = machine.revision
            for commands, context in _Life(self, seed).steps(self.steps):
                machine.apply(commands, context)
                demand(machine.revision >= before, f"the revision falls from {before} to {machine.revision}")
                before = machine.revision

    def test_a_query_changes_nothing(self) -> None:
        """It is answered by whichever replica is asked."""
        for seed in self.seeds:
            machine, rng = self._grown(seed), Random(seed)
            before = machine.digest()
            answers = [machine.query(self.query(Random(n))) for n in range(20)]
            demand(all(isinstance(answer, bytes) for answer in answers), "an answer is not bytes")
            demand(machine.digest() == before, "a query changed the state")
            for _ in range(50):
                with suppress(DEngineError):  # it is the asker who gets that
                    machine.query(rng.randbytes(rng.randrange(30)))
                demand(machine.digest() == before, "a query that makes no sense changed the state")
            again = [machine.query(self.query(Random(n))) for n in range(20)]
            demand(answers == again, "the same query of the same state is answered differently")

    def test_a_view_stays_as_it_was(self) -> None:
        """A snapshot is written from it while commands go on; what it holds is the state at its label."""
        for seed in self.seeds:
            machine, life = self.make(), _Life(self, seed)
            frozen: list[tuple[object, bytes, Iterator[bytes]]] = []
            for number, (commands, context) in enumerate(life.steps(self.steps)):
                machine.apply(commands, context)
                if number % 20 == 10:
                    bytes_now = b"".join(machine.chunks(machine.view()))
                    view = machine.view()
                    begun = machine.chunks(view)
                    frozen.append((view, bytes_now, chain([next(begun, b"")], begun)))
            for view, expected, begun in frozen:
                demand(
                    b"".join(begun) == expected, "chunks that were begun show what was applied after the view"
                )
                demand(b"".join(machine.chunks(view)) == expected, "a view shows what was applied after it")
                if isinstance(view, ReleasableView):
                    for _ in view.release():
                        pass
            copy = self.make()
            copy.restore(machine.chunks(machine.view()))
            self._demand_equal(machine, copy, "views were let go")

    def test_a_state_survives_its_bytes_however_they_are_cut(self) -> None:
        """A snapshot is read in pieces of other sizes than it was written; and what comes after is the same."""
        for seed in self.seeds:
            machine = self._grown(seed)
            pieces = list(machine.chunks(machine.view()))
            demand(all(len(piece) <= LARGEST_PIECE_BYTES for piece in pieces), "a piece is larger than 1 MiB")
            data = b"".join(pieces)
            for size in (1, 7, 4096, max(1, len(data))):
                copy = self._grown(seed + 1000)
                copy.restore(iter([data[at : at + size] for at in range(0, len(data), size)]))
                self._demand_equal(machine, copy, f"restoring in pieces of {size} bytes")
            again = self.make()
            again.restore(iter([b"", *pieces, b""]))
            self._demand_same_future(machine, again, seed)

    def test_an_empty_state_survives_too(self) -> None:
        """A cluster may take a snapshot before anything was written."""
        machine, copy = self.make(), self._grown(self.seeds[0])
        copy.restore(machine.chunks(machine.view()))
        self._demand_equal(machine, copy, "restoring an empty state")

    def test_a_restore_that_fails_changes_nothing(self) -> None:
        """The source may end with an error of its own, half-way: the old state is still served."""
        for seed in self.seeds:
            machine, other = self._grown(seed), self._grown(seed + 1000)
            pieces = b"".join(other.chunks(other.view()))
            before = (machine.digest(), machine.revision)
            for at in {0, 1, len(pieces) // 2, len(pieces)}:
                try:
                    machine.restore(_failing(pieces[:at]))
                except _SourceFails:
                    pass
                else:
                    demand(False, "restore hides the error of its source")
                demand(
                    (machine.digest(), machine.revision) == before, "a restore that failed changed the state"
                )

    def test_a_restore_in_steps_changes_nothing_before_its_end(self) -> None:
        """Of a `GradualStateMachine`: commands go on meanwhile, and it can be given up."""
        for seed in self.seeds:
            machine, other, twin = self._grown(seed), self._grown(seed + 1000), self._grown(seed)
            if not isinstance(machine, GradualStateMachine):
                return
            given_up = machine.restoring(other.chunks(other.view()))
            next(given_up, None)
            given_up.close()
            steps, life = (
                machine.restoring(other.chunks(other.view())),
                _Life(self, seed + 4000).steps(self.steps),
            )
            replacement: Replacement | None = None
            while replacement is None:
                try:
                    next(steps)
                except StopIteration as end:
                    replacement = end.value
                    continue
                for commands, context in islice(life, 2):
                    machine.apply(commands, context)
                    twin.apply(commands, context)
                demand(machine.digest() == twin.digest(), "a restore under way changes the state")
            left = replacement()
            self._demand_equal(machine, other, "restoring in steps")
            for _ in left:
                pass
            self._demand_equal(machine, other, "letting go of the state before")

    def test_equal_states_have_equal_digests_and_others_do_not(self) -> None:
        """Replicas are compared by it."""
        for seed in self.seeds:
            machine, copy = self._grown(seed), self.make()
            copy.restore(machine.chunks(machine.view()))
            demand(machine.digest() == copy.digest(), "a restored copy has another digest")
            known = {b"".join(machine.chunks(machine.view())): machine.digest()}
            for commands, context in _Life(self, seed + 2000).steps(self.steps):
                machine.apply(commands, context)
                data, digest = b"".join(machine.chunks(machine.view())), machine.digest()
                demand(known.setdefault(data, digest) == digest, "one state has two digests")
            demand(len(set(known.values())) == len(known), "two states have one digest")

    def test_what_is_due_does_nothing_twice(self) -> None:
        """Of a `TimedStateMachine`: asking changes nothing, and a command of its own may be applied again later."""
        for seed in self.seeds:
            machine = self._grown(seed)
            if not isinstance(machine, TimedStateMachine):
                return
            before, late = machine.digest(), 10**6 * _SECOND
            due = list(machine.due(late))
            demand(machine.digest() == before, "asking what is due changed the state")
            demand(list(machine.due(0)) == [] or machine.deadline == 0, "something is due before its time")
            machine.apply(due, ApplyContext(10**6, 10**6, late))
            after = (machine.digest(), machine.revision)
            machine.apply(due, ApplyContext(10**6 + 1, 10**6, late))
            demand((machine.digest(), machine.revision) == after, "what was due and done is done once more")

    # --- means --------------------------------------------------------------------------------------------------------

    def _grown(self, seed: int) -> StateMachine:
        machine = self.make()
        for commands, context in _Life(self, seed).steps(self.steps):
            machine.apply(commands, context)
        return machine

    def _demand_equal(self, one: StateMachine, other: StateMachine, after: str) -> None:
        demand(one.digest() == other.digest(), f"the digests differ after {after}")
        demand(one.revision == other.revision, f"the revisions differ after {after}")
        bytes_of = [b"".join(machine.chunks(machine.view())) for machine in (one, other)]
        demand(bytes_of[0] == bytes_of[1], f"the snapshots' bytes differ after {after}")
        answers = [[machine.query(self.query(Random(n))) for n in range(10)] for machine in (one, other)]
        demand(answers[0] == answers[1], f"queries are answered differently after {after}")

    def _demand_same_future(self, one: StateMachine, other: StateMachine, seed: int) -> None:
        for commands, context in _Life(self, seed + 3000).steps(self.steps):
            later = ApplyContext(context.index + 10**6, context.term, context.log_time + 10**6 * _SECOND)
            results = one.apply(commands, later)
            demand(results == other.apply(commands, later), "a restored copy gives other results afterwards")
        self._demand_equal(one, other, "a restore and more commands")


def _spoilt(command: bytes, rng: Random) -> bytes:
    """Cut, lengthened, or with a few bits turned over."""
    kind = rng.randrange(4)
    if kind == 0:
        return command[: rng.randrange(len(command) + 1)]
    if kind == 1:
        return command + rng.randbytes(rng.randrange(1, 9))
    if kind == 2 and command:
        spoilt = bytearray(command)
        for _ in range(rng.randrange(1, 4)):
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        return bytes(spoilt)
    return command


def _failing(data: bytes) -> Iterator[bytes]:
    if data:
        yield data
    raise _SourceFails
