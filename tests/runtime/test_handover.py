"""Every item that is handed over arrives, once, in order; every request is answered or fails."""

import asyncio
import sys
import threading
from collections.abc import Iterator

import pytest

from d_engine.format.errors import EngineStoppedError, OutcomeUnknownError, OverloadedError
from d_engine.runtime.handover import Crossing, Desk, Ticket
from d_engine.runtime.thread import EngineThread

Tickets = list[Ticket[int, int]]


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def engine() -> Iterator[EngineThread]:
    engine = EngineThread()
    engine.start(forever)
    yield engine
    if engine.running:
        engine.stop()
    assert engine.join(10)


@pytest.fixture
def hectic() -> Iterator[None]:
    """Threads change places as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def double(tickets: Tickets) -> None:
    for ticket in tickets:
        ticket.answer(2 * ticket.request)


def test_a_turn_is_a_batch(engine: EngineThread) -> None:
    batches: list[int] = []

    def handle(tickets: Tickets) -> None:
        batches.append(len(tickets))
        double(tickets)

    async def caller() -> None:
        desk = Desk(engine, handle)
        assert await asyncio.gather(*(desk.submit(number) for number in range(100))) == list(range(0, 200, 2))
        assert await desk.submit(4) == 8
        assert desk.unanswered == 0
        desk.close()

    asyncio.run(caller())
    assert batches == [100, 1]


def test_order_is_kept(engine: EngineThread) -> None:
    seen: list[int] = []

    def handle(tickets: Tickets) -> None:
        seen.extend(ticket.request for ticket in tickets)
        double(tickets)

    async def caller() -> None:
        desk = Desk(engine, handle)
        futures = []
        for number in range(1000):
            futures.append(desk.submit(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*futures)
        desk.close()

    asyncio.run(caller())
    assert seen == list(range(1000))


def test_errors_come_back(engine: EngineThread) -> None:
    def handle(tickets: Tickets) -> None:
        for ticket in tickets:
            ticket.fail(OverloadedError("too much"))

    async def caller() -> None:
        desk = Desk(engine, handle)
        with pytest.raises(OverloadedError):
            await desk.submit(1)
        desk.close()

    asyncio.run(caller())


def test_a_cancelled_request_gets_no_answer(engine: EngineThread) -> None:
    async def caller() -> None:
        desk = Desk(engine, double)
        cancelled = desk.submit(1)
        cancelled.cancel()
        assert await desk.submit(2) == 4
        assert cancelled.cancelled()
        assert desk.unanswered == 0
        waiting = desk.submit(3)
        desk.close()
        with pytest.raises(OutcomeUnknownError):
            await waiting

    asyncio.run(caller())


def test_end_of_the_engine_answers_everybody(engine: EngineThread) -> None:
    arrived = threading.Event()

    def handle(tickets: Tickets) -> None:
        for ticket in tickets:
            ticket.in_doubt = ticket.request == 2
        arrived.set()

    async def caller() -> None:
        desk = Desk(engine, handle)
        safe, doubtful = desk.submit(1), desk.submit(2)
        await asyncio.to_thread(arrived.wait, 10)
        engine.stop()
        never_seen = desk.submit(3)
        with pytest.raises(EngineStoppedError):
            await safe
        with pytest.raises(OutcomeUnknownError):
            await doubtful
        with pytest.raises(EngineStoppedError):
            await never_seen
        assert desk.unanswered == 0
        with pytest.raises(EngineStoppedError):
            desk.submit(4)
        desk.close()

    asyncio.run(caller())


def test_answers_given_while_the_engine_ends_arrive(engine: EngineThread) -> None:
    kept: Tickets = []
    arrived = threading.Event()

    def handle(tickets: Tickets) -> None:
        kept.extend(tickets)
        arrived.set()

    async def answer_last() -> None:
        try:
            await forever()
        finally:
            double(kept)

    async def caller() -> None:
        desk = Desk(engine, handle)
        last_words = engine.run(answer_last())
        future = desk.submit(21)
        await asyncio.to_thread(arrived.wait, 10)
        engine.stop()
        assert await future == 42
        assert last_words.exception(10)
        desk.close()

    asyncio.run(caller())


def test_a_closed_loop_drops_its_results_and_nothing_else(engine: EngineThread) -> None:
    kept: Tickets = []
    arrived = threading.Event()

    def keep(tickets: Tickets) -> None:
        kept.extend(tickets)
        arrived.set()

    async def leave() -> None:
        Desk(engine, keep).submit(1)
        await asyncio.to_thread(arrived.wait, 10)

    async def stay() -> None:
        desk = Desk(engine, double)

        async def answer() -> None:
            double(kept)

        await asyncio.wrap_future(engine.run(answer()))
        assert await desk.submit(2) == 4
        desk.close()

    asyncio.run(leave())
    asyncio.run(stay())
    assert engine.running
    engine.stop()
    assert engine.join(10)
    assert engine.failure is None


def test_crossing_counts_every_item(engine: EngineThread, hectic: None) -> None:
    """Four loops hand over to the engine at once; nothing is lost, doubled or out of order."""
    received: list[list[int]] = [[] for _ in range(4)]
    lost: list[int] = []

    def produce(which: int) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            crossing: Crossing[int] = Crossing(loop, engine.loop, received[which].extend, lost.extend)
            for number in range(20_000):
                crossing.put(number)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(main())

    threads = [threading.Thread(target=produce, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)

    async def settled() -> list[int]:
        return [len(items) for items in received]

    assert engine.run(settled()).result(10) == [20_000] * 4
    assert received == [list(range(20_000))] * 4
    assert not lost


def test_desks_of_many_loops_get_their_own_answers(engine: EngineThread, hectic: None) -> None:
    results: dict[int, int] = {}

    def handle(tickets: Tickets) -> None:
        for number, ticket in enumerate(tickets):
            if number % 3:
                ticket.answer(ticket.request + 1)
            else:
                engine.loop.call_soon(ticket.answer, ticket.request + 1)

    def call(which: int) -> None:
        async def worker(desk: Desk[int, int], base: int) -> int:
            return sum([await desk.submit(base + number) - base for number in range(200)])

        async def main() -> None:
            desk = Desk(engine, handle)
            results[which] = sum(await asyncio.gather(*(worker(desk, 1000 * number) for number in range(20))))
            assert desk.unanswered == 0
            desk.close()

        asyncio.run(main())

    threads = [threading.Thread(target=call, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert results == {which: 20 * sum(range(1, 201)) for which in range(4)}


def test_stop_under_load_answers_every_request(engine: EngineThread, hectic: None) -> None:
    outcomes: list[str] = []
    ready = threading.Barrier(4)

    def call() -> None:
        async def one(desk: Desk[int, int], number: int) -> str:
            try:
                assert await desk.submit(number) == 2 * number
            except EngineStoppedError:
                return "stopped"
            return "answered"

        async def main() -> None:
            desk = Desk(engine, double)
            ready.wait(10)
            tasks = []
            for number in range(2000):
                tasks.append(asyncio.ensure_future(one(desk, number)))
                if number % 20 == 0:
                    await asyncio.sleep(0)
            outcomes.extend(await asyncio.wait_for(asyncio.gather(*tasks), 15))
            desk.close()

        asyncio.run(main())

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait(10)
    engine.stop()
    for thread in threads:
        thread.join(18)
    assert len(outcomes) == 6000
