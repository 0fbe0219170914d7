"""The reader against a transport that does nothing by itself, in virtual time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from d_engine.client.deadlines import GRACE_SECONDS
from d_engine.client.reader import (
    MAX_OUTSTANDING_BATCHES,
    MAX_PENDING_BYTES,
    MAX_QUERIES_PER_BATCH,
    AnswersDone,
    BatchReader,
)
from d_engine.format.errors import EngineStoppedError, NoLeaderError, NotAppliedTimeoutError, OverloadedError
from d_engine.format.limits import BATCH_BYTES
from d_engine.format.requests import EVENTUAL, LINEARIZABLE
from tests.client.virtual_time import in_virtual_time

TIMEOUT = 5.0


@dataclass
class Asked:
    policy: int
    min_revision: int
    queries: Sequence[bytes]
    timeout: float
    done: AnswersDone

    def answer(self, count: int | None = None) -> None:
        self.done([b"ok " + query for query in self.queries[:count]], None)


@dataclass
class FakeTransport:
    asked: list[Asked] = field(default_factory=list)

    def read(
        self, policy: int, min_revision: int, queries: Sequence[bytes], timeout: float, done: AnswersDone
    ) -> None:
        self.asked.append(Asked(policy, min_revision, list(queries), timeout, done))


def reader_on(transport: FakeTransport) -> BatchReader:
    return BatchReader(asyncio.get_running_loop(), transport, TIMEOUT)


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@in_virtual_time
async def test_one_batch_for_each_consistency() -> None:
    transport = FakeTransport()
    reader = reader_on(transport)
    futures = [
        reader.read(policy, revision, b"%d" % number)
        for number in range(10)
        for policy, revision in ((LINEARIZABLE, 0), (EVENTUAL, 0), (EVENTUAL, 7))
    ]
    await turns()
    assert [(asked.policy, asked.min_revision, len(asked.queries)) for asked in transport.asked] == [
        (LINEARIZABLE, 0, 10),
        (EVENTUAL, 0, 10),
        (EVENTUAL, 7, 10),
    ]
    for asked in transport.asked:
        asked.answer()
    assert await asyncio.gather(*futures) == [b"ok %d" % number for number in range(10) for _ in range(3)]


@in_virtual_time
async def test_what_was_not_answered_is_asked_again_before_what_came_later() -> None:
    transport = FakeTransport()
    reader = reader_on(transport)
    futures = [reader.read(LINEARIZABLE, 0, b"%d" % number) for number in range(4)]
    await turns()
    futures.append(reader.read(LINEARIZABLE, 0, b"later"))
    transport.asked[0].answer(1)
    await turns()
    assert transport.asked[1].queries == [b"1", b"2", b"3", b"later"]
    transport.asked[1].answer(0)
    await turns()
    transport.asked[2].answer()
    assert await asyncio.gather(*futures) == [b"ok 0", b"ok 1", b"ok 2", b"ok 3", b"ok later"]


@in_virtual_time
async def test_batches_are_limited_in_number_and_size() -> None:
    transport = FakeTransport()
    reader = reader_on(transport)
    futures = [reader.read(LINEARIZABLE, 0, b"x") for _ in range(MAX_QUERIES_PER_BATCH + 1)]
    futures += [reader.read(EVENTUAL, 0, bytes(BATCH_BYTES // 2 + 1)) for _ in range(2)]
    await turns()
    assert [len(asked.queries) for asked in transport.asked] == [MAX_QUERIES_PER_BATCH, 1, 1, 1]
    while len(transport.asked) < MAX_OUTSTANDING_BATCHES:
        futures.append(reader.read(LINEARIZABLE, 0, b"x"))
        await turns()
    for _ in range(10):
        futures.append(reader.read(LINEARIZABLE, 0, b"x"))
        await turns()
    assert len(transport.asked) == MAX_OUTSTANDING_BATCHES
    transport.asked[3].answer()
    await turns()
    assert len(transport.asked[-1].queries) == 10
    for asked in (*transport.asked[:3], *transport.asked[4:]):
        asked.answer()
    await asyncio.gather(*futures)


@in_virtual_time
async def test_too_much_waiting_is_refused_and_forgotten_when_answered() -> None:
    transport = FakeTransport()
    reader = reader_on(transport)
    half = bytes(MAX_PENDING_BYTES // 2)
    futures = [reader.read(LINEARIZABLE, 0, half) for _ in range(2)]
    with pytest.raises(OverloadedError):
        reader.read(LINEARIZABLE, 0, b"x")
    await turns()
    transport.asked[0].answer()
    transport.asked[1].done((), NoLeaderError("nobody"))
    assert len(await futures[0]) == len(half) + 3
    with pytest.raises(NoLeaderError):
        await futures[1]
    cancelled = [reader.read(LINEARIZABLE, 0, half) for _ in range(2)]
    for future in cancelled:
        future.cancel()
    await turns()
    assert len(transport.asked) == 2
    reader.read(LINEARIZABLE, 0, half)


@in_virtual_time
async def test_time_outs() -> None:
    transport = FakeTransport()
    loop = asyncio.get_running_loop()
    reader = reader_on(transport)
    usual, short = reader.read(LINEARIZABLE, 0, b"x"), reader.read(LINEARIZABLE, 0, b"y", 0.5)
    with pytest.raises(NotAppliedTimeoutError):
        await short
    assert loop.time() == pytest.approx(0.5)
    assert transport.asked[0].timeout == TIMEOUT
    with pytest.raises(NotAppliedTimeoutError):
        await usual
    assert loop.time() == pytest.approx(TIMEOUT + GRACE_SECONDS)
    transport.asked[0].answer()
    again = reader.read(LINEARIZABLE, 0, b"z")
    await turns()
    transport.asked[1].answer()
    assert await again == b"ok z"


@in_virtual_time
async def test_time_outs_of_what_waits_for_its_turn() -> None:
    transport = FakeTransport()
    loop = asyncio.get_running_loop()
    reader = reader_on(transport)
    for _ in range(MAX_OUTSTANDING_BATCHES):
        reader.read(LINEARIZABLE, 0, b"x", 100.0)
        await turns()
    late = reader.read(LINEARIZABLE, 0, b"late")
    with pytest.raises(NotAppliedTimeoutError, match="not sent"):
        await late
    assert loop.time() == pytest.approx(TIMEOUT)


@in_virtual_time
async def test_close_answers_everybody() -> None:
    transport = FakeTransport()
    reader = reader_on(transport)
    sent = reader.read(LINEARIZABLE, 0, b"x")
    await turns()
    unsent = reader.read(LINEARIZABLE, 0, b"x")
    reader.close()
    for future in (sent, unsent):
        with pytest.raises(EngineStoppedError):
            await future
    with pytest.raises(EngineStoppedError):
        reader.read(LINEARIZABLE, 0, b"x")
    transport.asked[0].answer()
    await asyncio.sleep(100)
    assert len(transport.asked) == 1
