"""How a holder knows that it has lost its lease, in virtual time, with a cluster that answers as it is told."""

import asyncio

import pytest

from d_engine.client.lease import Lease, LeaseKeeper, margin_of
from d_engine.format.errors import EngineStoppedError, NoLeaderError, OutcomeUnknownError
from d_engine.kv.commands import decode_command
from d_engine.kv.lease_commands import KeepAlive
from d_engine.kv.results import encode_kept
from tests.client.virtual_time import in_virtual_time

SECOND = 1_000_000_000


class Cluster:
    """Answers a keep-alive after `delay` seconds, or never (None). `stopped_for`: how long the process stood still, as
    the loop's clock does not count it."""

    def __init__(self, ttl: float) -> None:
        self.delay: float | None = 0.01
        self.error: Exception | None = None
        self.gone: dict[int, bool] = {}
        self.asked: list[tuple[float, tuple[int, ...]]] = []
        self.stopped_for = 0.0
        self.ttl = int(ttl * SECOND)
        self.keeper = LeaseKeeper(self.write, self.clock)

    def clock(self) -> int:
        return int((asyncio.get_running_loop().time() + self.stopped_for) * SECOND)

    def hold(self, lease_id: int = 1) -> Lease:
        lease = Lease(lease_id, self.ttl, self.clock(), self.clock)
        self.keeper.add(lease)
        return lease

    def write(self, command: bytes, timeout: float | None, large: bool) -> "asyncio.Future[bytes]":
        kept = decode_command(command)
        assert isinstance(kept, KeepAlive)
        loop = asyncio.get_running_loop()
        self.asked.append((round(loop.time(), 3), kept.leases))
        future: asyncio.Future[bytes] = loop.create_future()
        if self.delay is None:
            assert timeout is not None
            loop.call_later(timeout, future.set_exception, OutcomeUnknownError("no answer"))
        elif self.error is not None:
            loop.call_later(self.delay, future.set_exception, self.error)
        else:
            result = encode_kept(1, [0 if lease in self.gone else self.ttl for lease in kept.leases])
            loop.call_later(self.delay, future.set_result, result)
        return future


@in_virtual_time
async def test_it_is_kept_alive_three_times_in_its_life() -> None:
    cluster = Cluster(9)
    lease = cluster.hold()
    await asyncio.sleep(100)
    assert not lease.lost.is_set()
    assert 33 <= len(cluster.asked) <= 45
    assert lease.remaining() > 4
    cluster.keeper.drop(lease)


@in_virtual_time
@pytest.mark.parametrize("ttl", [0.3, 0.6, 2, 10, 100])
async def test_it_is_lost_a_margin_before_its_end_though_nobody_answers(ttl: float) -> None:
    """Counted from the last keep-alive that was acknowledged, when it was *sent*, however late the answer came."""
    cluster = Cluster(ttl)
    lease = cluster.hold()
    cluster.delay = ttl / 10
    await asyncio.sleep(ttl * 3)
    assert not lease.lost.is_set()
    cluster.delay = None
    acknowledged, _ = cluster.asked[-1]
    await lease.lost
    margin = max(ttl / 10, 0.1)
    assert asyncio.get_running_loop().time() == pytest.approx(acknowledged + ttl - margin, abs=0.02)
    assert lease.lost.reason == "no keep-alive was acknowledged in time"
    assert lease.remaining() == 0


@in_virtual_time
@pytest.mark.parametrize("error", [NoLeaderError("nobody"), OutcomeUnknownError("lost")])
async def test_failures_are_tried_again_until_it_is_too_late(error: Exception) -> None:
    cluster = Cluster(10)
    lease = cluster.hold()
    cluster.error = error
    await asyncio.sleep(8)
    assert not lease.lost.is_set()
    assert len(cluster.asked) >= 4
    cluster.error = None
    await asyncio.sleep(30)
    assert not lease.lost.is_set()
    cluster.error = error
    await asyncio.sleep(10)
    assert lease.lost.is_set()
    asked = len(cluster.asked)
    await asyncio.sleep(20)
    assert len(cluster.asked) == asked


@in_virtual_time
async def test_who_stood_still_too_long_has_lost_it_at_once() -> None:
    """Scenario 41, at the holder: the machine was suspended, and the loop's clock knows nothing of it."""
    cluster = Cluster(10)
    lease = cluster.hold()
    await asyncio.sleep(5)
    assert not lease.lost.is_set()
    cluster.stopped_for = 20
    assert lease.lost.is_set()
    assert lease.remaining() == 0


@in_virtual_time
async def test_who_waits_hears_of_it_within_a_second() -> None:
    """Of the loop's time, which stood still while the machine slept."""
    cluster = Cluster(100)
    lease = cluster.hold()
    await asyncio.sleep(5)
    cluster.stopped_for = 200
    await lease.lost
    assert asyncio.get_running_loop().time() <= 6.1


@in_virtual_time
async def test_it_is_lost_when_the_cluster_says_so() -> None:
    cluster = Cluster(10)
    lease, other = cluster.hold(1), cluster.hold(2)
    cluster.gone[1] = True
    await lease.lost.wait()
    assert asyncio.get_running_loop().time() < 5
    assert "expired or was revoked" in lease.lost.reason
    assert not other.lost.is_set()
    cluster.keeper.drop(other)


@in_virtual_time
async def test_a_client_that_is_closed_holds_nothing() -> None:
    cluster = Cluster(10)
    lease = cluster.hold()
    cluster.error = EngineStoppedError()
    await lease.lost.wait()
    assert lease.lost.reason == "the engine is stopped"


@in_virtual_time
async def test_leases_of_one_client_travel_together() -> None:
    cluster = Cluster(12)
    for number in range(1, 2001):
        cluster.hold(number)
        if number % 100 == 0:
            await asyncio.sleep(0.01)
    await asyncio.sleep(100)
    assert len(cluster.asked) <= 2 * 3 * 100 / 12 + 10
    assert max(len(leases) for _, leases in cluster.asked) == 1000
    cluster.keeper.end("over")


def test_the_margin_is_a_tenth_and_at_least_a_tenth_of_a_second() -> None:
    assert [margin_of(ttl) for ttl in (SECOND // 2, SECOND, 10 * SECOND)] == [
        SECOND // 10,
        SECOND // 10,
        SECOND,
    ]
