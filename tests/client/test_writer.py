"""The writer against a transport that does nothing by itself, in virtual time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from d_engine.client.deadlines import GRACE_SECONDS
from d_engine.client.writer import (
    MAX_KEPT_RESULT_BYTES,
    MAX_OUTSTANDING_BYTES,
    MAX_OUTSTANDING_GROUPS,
    SMALL_RESULT_BYTES,
    GroupWriter,
    OutcomeDone,
)
from d_engine.format.errors import (
    DEngineError,
    DiskFullError,
    EngineStoppedError,
    NoLeaderError,
    NotAppliedTimeoutError,
    OutcomeUnknownError,
    OutcomeUnknownTimeoutError,
    OverloadedError,
    SessionLostError,
    UnavailableError,
)
from d_engine.format.group import Group, decode_group
from d_engine.format.limits import BATCH_BYTES
from d_engine.replica.outcome import GroupOutcome
from tests.client.virtual_time import in_virtual_time

SESSION = 7
TIMEOUT = 5.0


@dataclass
class Sent:
    group: Group
    timeout: float
    done: OutcomeDone

    def answer(self) -> None:
        self.done(GroupOutcome([b"ok " + command for command in self.group.commands], 1, None))

    def fail(self, error: DEngineError) -> None:
        self.done(GroupOutcome((), 0, error))


@dataclass
class FakeTransport:
    sent: list[Sent] = field(default_factory=list)
    opens: list[OutcomeDone] = field(default_factory=list)
    opens_at_once: bool = True

    def open_session(self, timeout: float, done: OutcomeDone) -> None:
        self.opens.append(done)
        if self.opens_at_once:
            asyncio.get_running_loop().call_soon(done, GroupOutcome((), SESSION + len(self.opens) - 1, None))

    def submit(self, group: bytes, timeout: float, done: OutcomeDone) -> None:
        self.sent.append(Sent(decode_group(group)[0], timeout, done))

    @property
    def shapes(self) -> list[tuple[int, int, int, int]]:
        """Session, number, floor and count of each group."""
        groups = [sent.group for sent in self.sent]
        return [(group.session, group.number, group.floor, len(group.commands)) for group in groups]


def writer_on(transport: FakeTransport, max_pending: int = 10_000) -> GroupWriter:
    return GroupWriter(asyncio.get_running_loop(), transport, TIMEOUT, max_pending)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def results(futures: "Sequence[asyncio.Future[bytes]]") -> list[bytes | BaseException]:
    return await asyncio.gather(*futures, return_exceptions=True)


@in_virtual_time
async def test_commands_of_one_turn_make_one_group_and_results_go_to_their_callers() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    futures = [writer.write(b"%d" % number) for number in range(100)]
    await turns()
    assert transport.shapes == [(SESSION, 1, 0, 100)]
    transport.sent[0].answer()
    assert await results(futures) == [b"ok %d" % number for number in range(100)]


@in_virtual_time
async def test_the_floor_is_the_highest_number_below_which_all_are_finished() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    for _ in range(4):
        writer.write(b"x")
        await turns()
    transport.sent[0].answer()
    transport.sent[2].answer()
    writer.write(b"x")
    await turns()
    transport.sent[1].answer()
    writer.write(b"x")
    await turns()
    assert [(number, floor) for _, number, floor, _ in transport.shapes] == [
        (1, 0),
        (2, 0),
        (3, 0),
        (4, 0),
        (5, 1),
        (6, 3),
    ]


@in_virtual_time
async def test_what_comes_while_the_window_is_full_makes_one_bigger_group() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    for _ in range(MAX_OUTSTANDING_GROUPS + 30):
        writer.write(b"x")
        await turns()
    assert len(transport.sent) == MAX_OUTSTANDING_GROUPS
    # Room that is not at the front does not count: the cluster keeps what stands above the floor.
    transport.sent[1].answer()
    await turns()
    assert len(transport.sent) == MAX_OUTSTANDING_GROUPS
    transport.sent[0].answer()
    await turns()
    assert transport.shapes[-1] == (SESSION, MAX_OUTSTANDING_GROUPS + 1, 2, 30)


@in_virtual_time
async def test_a_group_stops_growing_at_its_limit_and_a_larger_command_travels_alone() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    third = bytes(BATCH_BYTES // 3)
    for command in (third, third, third, bytes(BATCH_BYTES + 1), b"x", b"y"):
        writer.write(command)
    await turns()
    assert [count for *_, count in transport.shapes] == [2, 1, 1, 2]


@in_virtual_time
async def test_bytes_on_the_way_are_limited() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    futures = [
        writer.write(bytes(BATCH_BYTES - 100)) for _ in range(2 * MAX_OUTSTANDING_BYTES // BATCH_BYTES)
    ]
    await turns()
    # The last one may begin just below the limit.
    assert len(transport.sent) == MAX_OUTSTANDING_BYTES // BATCH_BYTES + 1
    while not all(future.done() for future in futures):
        transport.sent.pop(0).answer()
        await turns()


@in_virtual_time
async def test_results_that_the_cluster_must_keep_are_limited() -> None:
    transport = FakeTransport()
    most = MAX_KEPT_RESULT_BYTES // SMALL_RESULT_BYTES
    writer = writer_on(transport, max_pending=10 * most)
    for _ in range(most + 10):
        writer.write(b"")
    await turns()
    assert transport.shapes == [(SESSION, 1, 0, most)]
    transport.sent[0].answer()
    await turns()
    assert transport.shapes[1:] == [(SESSION, 2, 1, 10)]


@in_virtual_time
async def test_commands_that_answer_with_values_travel_alone_and_in_order() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    writer.write(b"a")
    for _ in range(10):
        writer.write(b"large", large_result=True)
    writer.write(b"b")
    writer.write(b"c")
    await turns()
    counts = []
    while transport.sent:
        assert len(transport.sent) == 1
        counts.append(len(transport.sent[0].group.commands))
        transport.sent.pop().answer()
        await turns()
    assert counts == [1, 8, 2, 2]


@in_virtual_time
async def test_cancelled_writes_that_were_not_sent_are_never_sent() -> None:
    transport = FakeTransport(opens_at_once=False)
    writer = writer_on(transport)
    futures = [writer.write(b"%d" % number) for number in range(4)]
    await turns()
    futures[1].cancel()
    futures[3].cancel()
    transport.opens[0](GroupOutcome((), SESSION, None))
    await turns()
    assert transport.sent[0].group.commands == (b"0", b"2")
    futures[0].cancel()
    transport.sent[0].answer()
    assert await futures[2] == b"ok 2"


@in_virtual_time
async def test_too_much_waiting_is_refused_at_once() -> None:
    transport = FakeTransport()
    writer = writer_on(transport, max_pending=3)
    futures = [writer.write(b"x") for _ in range(3)]
    with pytest.raises(OverloadedError):
        writer.write(b"x")
    await turns()
    with pytest.raises(OverloadedError):
        writer.write(b"x")
    transport.sent[0].answer()
    await results(futures)
    writer.write(b"x")


@in_virtual_time
async def test_a_refusal_reaches_every_caller_with_an_exception_of_its_own() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    futures = [writer.write(b"x") for _ in range(2)]
    await turns()
    transport.sent[0].fail(DiskFullError("no room"))
    first, second = await results(futures)
    assert isinstance(first, DiskFullError)
    assert isinstance(second, DiskFullError)
    assert first is not second
    writer.write(b"x")
    await turns()
    assert transport.shapes[-1] == (SESSION, 2, 1, 1)


@in_virtual_time
async def test_the_wrong_number_of_results_is_an_unknown_outcome() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    future = writer.write(b"x")
    await turns()
    transport.sent[0].done(GroupOutcome((b"1", b"2"), 1, None))
    with pytest.raises(OutcomeUnknownError):
        await future


# --- sessions --------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_first_writes_wait_for_one_session() -> None:
    transport = FakeTransport(opens_at_once=False)
    writer = writer_on(transport)
    for _ in range(3):
        writer.write(b"x")
        await turns()
    assert len(transport.opens) == 1
    assert not transport.sent
    transport.opens[0](GroupOutcome((), SESSION, None))
    await turns()
    assert transport.shapes == [(SESSION, 1, 0, 3)]


@in_virtual_time
async def test_a_session_that_cannot_be_opened_is_tried_again_until_the_time_out() -> None:
    transport = FakeTransport(opens_at_once=False)
    loop = asyncio.get_running_loop()
    writer = writer_on(transport)
    future = writer.write(b"x")
    await turns()
    for _ in range(3):
        transport.opens[-1](GroupOutcome((), 0, NoLeaderError("nobody leads; reachable: node 2")))
        await asyncio.sleep(0.2)
    assert len(transport.opens) == 4
    with pytest.raises(NoLeaderError, match="reachable: node 2"):
        await future
    assert loop.time() == pytest.approx(TIMEOUT)


@in_virtual_time
async def test_a_session_that_is_refused_for_good_fails_who_waits() -> None:
    transport = FakeTransport(opens_at_once=False)
    writer = writer_on(transport)
    future = writer.write(b"x")
    await turns()
    transport.opens[0](GroupOutcome((), 0, DiskFullError("no room")))
    with pytest.raises(DiskFullError):
        await future
    writer.write(b"x")
    await turns()
    assert len(transport.opens) == 2


@in_virtual_time
async def test_a_lost_session_ends_what_was_sent_and_renumbers_what_was_not() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    sent = []
    for _ in range(MAX_OUTSTANDING_GROUPS):
        sent.append(writer.write(b"sent"))
        await turns()
    unsent = [writer.write(b"unsent") for _ in range(3)]
    await turns()
    transport.sent[5].fail(SessionLostError("gone"))
    for outcome in await results(sent):
        assert isinstance(outcome, SessionLostError)
    await turns()
    assert transport.shapes[MAX_OUTSTANDING_GROUPS:] == [(SESSION + 1, 1, 0, 3)]
    # Late answers of the old session change nothing.
    transport.sent[0].answer()
    transport.sent[1].fail(SessionLostError("gone"))
    transport.sent[-1].answer()
    assert await results(unsent) == [b"ok unsent"] * 3
    writer.write(b"x")
    await turns()
    assert transport.shapes[-1] == (SESSION + 1, 2, 1, 1)


# --- time-outs -------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_the_transport_is_told_how_long_it_may_take() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    writer.write(b"x")
    await turns()
    writer.write(b"x", timeout=1.0)
    await turns()
    writer.write(b"x", timeout=60.0)
    writer.write(b"x")
    await turns()
    assert [sent.timeout for sent in transport.sent] == [TIMEOUT, 1.0, 60.0]


@in_virtual_time
async def test_a_silent_transport_is_given_up_and_the_floor_passes_the_group() -> None:
    transport = FakeTransport()
    loop = asyncio.get_running_loop()
    writer = writer_on(transport)
    future = writer.write(b"x")
    await turns()
    with pytest.raises(OutcomeUnknownTimeoutError):
        await future
    assert loop.time() == pytest.approx(TIMEOUT + GRACE_SECONDS)
    writer.write(b"x")
    await turns()
    assert transport.shapes[-1] == (SESSION, 2, 1, 1)
    transport.sent[0].answer()


@in_virtual_time
async def test_each_write_of_a_group_has_its_own_time_out() -> None:
    transport = FakeTransport()
    loop = asyncio.get_running_loop()
    writer = writer_on(transport)
    usual, short = writer.write(b"usual"), writer.write(b"short", timeout=0.5)
    await turns()
    with pytest.raises(OutcomeUnknownTimeoutError):
        await short
    assert loop.time() == pytest.approx(0.5)
    transport.sent[0].answer()
    assert await usual == b"ok usual"


@in_virtual_time
async def test_what_was_not_sent_in_time_was_not_applied_and_never_will_be() -> None:
    transport = FakeTransport(opens_at_once=False)
    loop = asyncio.get_running_loop()
    writer = writer_on(transport)
    late, short = writer.write(b"late"), writer.write(b"short", timeout=1.0)
    with pytest.raises(NotAppliedTimeoutError, match="session"):
        await short
    assert loop.time() == pytest.approx(1.0)
    await asyncio.sleep(3)
    patient = writer.write(b"patient")
    with pytest.raises(NotAppliedTimeoutError):
        await late
    assert loop.time() == pytest.approx(TIMEOUT)
    transport.opens[0](GroupOutcome((), SESSION, None))
    await turns()
    assert transport.sent[0].group.commands == (b"patient",)
    transport.sent[0].answer()
    assert await patient == b"ok patient"


@in_virtual_time
async def test_waiting_for_the_window_has_the_time_out_of_the_write_not_of_the_group() -> None:
    transport = FakeTransport()
    loop = asyncio.get_running_loop()
    writer = writer_on(transport)
    for _ in range(MAX_OUTSTANDING_GROUPS):
        writer.write(b"x", timeout=100)
        await turns()
    first = writer.write(b"first")
    await asyncio.sleep(4.5)
    second = writer.write(b"second")
    with pytest.raises(NotAppliedTimeoutError, match="64 groups"):
        await first
    assert loop.time() == pytest.approx(5.0)
    transport.sent[0].answer()
    await turns()
    assert transport.sent[-1].group.commands == (b"second",)
    assert transport.sent[-1].timeout == pytest.approx(4.5)
    transport.sent[-1].answer()
    assert await second == b"ok second"


# --- closing ---------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_close_answers_everybody() -> None:
    transport = FakeTransport()
    writer = writer_on(transport)
    sent = writer.write(b"x")
    await turns()
    unsent = writer.write(b"x")
    writer.close()
    first, second = await results([sent, unsent])
    assert isinstance(first, OutcomeUnknownError)
    assert isinstance(second, EngineStoppedError)
    with pytest.raises(EngineStoppedError):
        writer.write(b"x")
    transport.sent[0].answer()
    await asyncio.sleep(100)
    assert len(transport.sent) == 1


@in_virtual_time
async def test_close_while_the_session_opens() -> None:
    transport = FakeTransport(opens_at_once=False)
    writer = writer_on(transport)
    future = writer.write(b"x")
    await turns()
    writer.close(UnavailableError("closed"))
    with pytest.raises(UnavailableError):
        await future
    transport.opens[0](GroupOutcome((), SESSION, None))
    await turns()
    assert not transport.sent
