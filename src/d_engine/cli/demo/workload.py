"""Writers that remember what was promised to them.

Each key is written by one task at a time, so what it may hold is simple: the value acknowledged last, or that of a
write whose outcome is unknown.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from d_engine.client.api import Client
from d_engine.format.errors import NotAppliedError, OutcomeUnknownError

WRITERS = 50
_READERS = 100


@dataclass(slots=True)
class Promise:
    """What one key may hold."""

    acknowledged: bytes | None = None
    unknown: list[bytes] = field(default_factory=list)

    def allows(self, value: bytes | None) -> bool:
        """Whether reading this value breaks no promise."""
        return value == self.acknowledged or value in self.unknown


@dataclass(slots=True)
class Tally:
    """What the writers have seen."""

    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0
    longest_gap_s: float = 0.0
    last_acknowledged: float = 0.0

    def acknowledge(self) -> None:
        """A write was acknowledged now."""
        now = perf_counter()
        if self.last_acknowledged:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_acknowledged)
        self.last_acknowledged = now
        self.acknowledged += 1


class Workload:
    """Writes the items, again and again if asked to, and checks them in the end."""

    def __init__(self, items: dict[bytes, bytes]) -> None:
        self.items = items
        self.promises = {key: Promise() for key in items}
        self.tally = Tally()

    async def load(self, client: Client) -> None:
        """Write every item once."""
        await self._in_parallel([self._write_slice(client, keys, b"") for keys in self._slices(WRITERS)])

    async def keep_writing(self, client: Client, stop: asyncio.Event) -> None:
        """Write round after round, each with values of its own, until told to stop."""

        async def writer(keys: Sequence[bytes]) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                await self._write_slice(client, keys, b" round %d" % turn, stop)

        await self._in_parallel([writer(keys) for keys in self._slices(WRITERS)])

    async def verify(self, client: Client) -> tuple[int, int]:
        """Read every key linearizably. Returns how many are lost, and how many hold what they must not."""
        lost = wrong = 0

        async def reader(keys: Sequence[bytes]) -> None:
            nonlocal lost, wrong
            for key in keys:
                value = await client.get(key)
                if not self.promises[key].allows(value):
                    if value is None:
                        lost += 1
                    else:
                        wrong += 1

        await self._in_parallel([reader(keys) for keys in self._slices(_READERS)])
        return lost, wrong

    def _slices(self, count: int) -> list[list[bytes]]:
        keys = list(self.items)
        return [keys[start::count] for start in range(min(count, len(keys)))]

    async def _write_slice(
        self, client: Client, keys: Sequence[bytes], suffix: bytes, stop: asyncio.Event | None = None
    ) -> None:
        for key in keys:
            if stop is not None and stop.is_set():
                return
            value = self.items[key] + suffix
            promise = self.promises[key]
            try:
                await client.put(key, value)
            except OutcomeUnknownError:
                self.tally.unknown += 1
                promise.unknown.append(value)
            except NotAppliedError:
                self.tally.refused += 1
            else:
                promise.acknowledged = value
                self.tally.acknowledge()

    async def _in_parallel(self, work: Sequence[Coroutine[None, None, None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
