"""A state machine of one's own: named counters, replicated, durable, and tried under a simulator's faults.

Run it: `python examples/replicated_counters.py`. Its test under faults is `tests/examples/test_replicated_counters.py`.
"""

import asyncio
import struct
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from random import Random

from d_engine import EmbeddedEngine
from d_engine.format.state_machine import ApplyContext
from d_engine.testing import Command, Query
from d_engine.testing.checkers.history import Operation, Outcome

_NUMBER = struct.Struct("<q")


class Counters:
    """A `StateMachine`: a command is a counter's name, and adds one to it; the result is the new value."""

    def __init__(self) -> None:
        self._values: dict[bytes, int] = {}
        self.revision = 0

    def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
        results = []
        for name in commands:
            self._values[name] = self._values.get(name, 0) + 1
            self.revision += 1
            results.append(_NUMBER.pack(self._values[name]))
        return results

    def query(self, request: bytes) -> bytes:
        return _NUMBER.pack(self._values.get(request, 0))

    def view(self) -> dict[bytes, int]:
        return dict(self._values)

    def chunks(self, view: object) -> Iterator[bytes]:
        if isinstance(view, dict):
            for name, value in sorted(view.items()):
                yield struct.pack("<Iq", len(name), value) + name

    def restore(self, source: Iterator[bytes]) -> None:
        data, values, position = b"".join(source), {}, 0
        while position < len(data):
            size, value = struct.unpack_from("<Iq", data, position)
            position += 12 + size
            values[data[position - size : position]] = value
        self._values, self.revision = values, sum(values.values())

    def digest(self) -> bytes:
        return blake2b(repr(sorted(self._values.items())).encode(), digest_size=16).digest()


class CountersUnderFaults:
    """An `Application` for the simulator: everybody counts the same few things."""

    def state_machine(self) -> Counters:
        return Counters()

    def command(self, rng: Random) -> bytes:
        return rng.choice((b"apples", b"pears"))

    def query(self, rng: Random) -> bytes:
        return self.command(rng)

    def final_query(self) -> bytes:
        return b"apples"

    def check(self, operations: Sequence[Operation[Command | Query]]) -> None:
        """No value is given out twice, and nobody sees fewer than had been acknowledged before they asked."""
        counted = [
            operation
            for operation in operations
            if isinstance(operation.action, Command) and operation.outcome is Outcome.OK
        ]
        seen = [(operation.action.data, operation.result) for operation in counted]
        assert len(set(seen)) == len(seen), "one value was given out twice"
        for read in operations:
            if (
                isinstance(read.action, Query)
                and read.outcome is Outcome.OK
                and isinstance(read.result, bytes)
            ):
                before = sum(op.action.data == read.action.data and op.precedes(read) for op in counted)
                (value,) = _NUMBER.unpack(read.result)
                assert value >= before, (
                    f"{value} of {read.action.data!r} were seen, {before} had been counted"
                )


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedEngine(f"{folder}/data", state_machine=Counters) as engine:
            await asyncio.gather(*(engine.execute(b"apples") for _ in range(10)))
            (apples,) = _NUMBER.unpack(await engine.query(b"apples"))
            print(f"{apples} apples")


if __name__ == "__main__":
    asyncio.run(main())
