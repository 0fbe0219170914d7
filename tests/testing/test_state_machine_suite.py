"""The suite passes what conforms, and fails each kind of state machine that does not."""

from collections.abc import Iterator, Sequence
from random import Random
from time import perf_counter_ns

import pytest
from examples.replicated_counters import Counters

from d_engine.format.state_machine import ApplyContext
from d_engine.testing.demands import NotConforming
from d_engine.testing.state_machine_suite import StateMachineSuite


class TestCounters(StateMachineSuite):
    def make(self) -> Counters:
        return Counters()

    def command(self, rng: Random) -> bytes:
        return rng.choice((b"apples", b"pears", b"plums"))

    def query(self, rng: Random) -> bytes:
        return self.command(rng)


class Clocked(Counters):
    def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
        return [str(perf_counter_ns()).encode() for _ in commands]


class Silent(Counters):
    def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
        return super().apply(commands, context)[:1]


class Raising(Counters):
    def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
        return super().apply([command.decode().encode() for command in commands], context)


class Falling(Counters):
    def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
        results = super().apply(commands, context)
        self.revision = self.revision % 10
        return results


class Curious(Counters):
    def query(self, request: bytes) -> bytes:
        self._values[request] = self._values.get(request, 0) + 1
        return b""


class Melting(Counters):
    def view(self) -> dict[bytes, int]:
        return self._values


class CuttingWhereItWrote(Counters):
    def restore(self, source: Iterator[bytes]) -> None:
        values = {}
        for piece in source:
            if piece:
                values[piece[12:]] = int.from_bytes(piece[4:12], "little")
        self._values, self.revision = values, sum(values.values())


class Hasty(Counters):
    def restore(self, source: Iterator[bytes]) -> None:
        self._values = {}
        super().restore(source)


class Forgetful(Counters):
    def restore(self, source: Iterator[bytes]) -> None:
        super().restore(source)
        self.revision = 0


class Coarse(Counters):
    def digest(self) -> bytes:
        return b"%d" % len(self._values)


@pytest.mark.parametrize(
    ("machine", "test"),
    [
        (Clocked, "test_the_same_commands_give_the_same_results_and_state"),
        (Silent, "test_each_command_has_one_result"),
        (Raising, "test_no_bytes_make_it_raise"),
        (Falling, "test_the_revision_never_falls"),
        (Curious, "test_a_query_changes_nothing"),
        (Melting, "test_a_view_stays_as_it_was"),
        (CuttingWhereItWrote, "test_a_state_survives_its_bytes_however_they_are_cut"),
        (Hasty, "test_a_restore_that_fails_changes_nothing"),
        (Forgetful, "test_a_state_survives_its_bytes_however_they_are_cut"),
        (Coarse, "test_equal_states_have_equal_digests_and_others_do_not"),
    ],
)
def test_what_does_not_conform_fails(machine: type[Counters], test: str) -> None:
    class Suite(TestCounters):
        def make(self) -> Counters:
            return machine()

    with pytest.raises(UnicodeDecodeError if machine is Raising else (NotConforming, AssertionError)):
        getattr(Suite(), test)()
