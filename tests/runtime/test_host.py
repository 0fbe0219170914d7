"""The replica's host: one timer that is never early, seldom set, and follows the boot-time clock."""

import asyncio
import threading

import pytest

from d_engine.runtime.clock import boot_time_ns
from d_engine.runtime.host import LoopHost
from d_engine.runtime.turn import at_end
from tests.runtime.manual_loop import ManualLoop

MS = 1_000_000


class Scene:
    """A host whose clock the test turns; the loop's clock runs beside it."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.host = LoopHost(self.loop.loop)
        self.time = 5_000 * MS
        self.ticks: list[int] = []
        self.host.now = lambda: self.time
        self.host.start(lambda: self.ticks.append(self.time))

    def pass_time(self, milliseconds: int, boot: int | None = None) -> None:
        for _ in range(milliseconds):
            self.time += MS if boot is None else boot
            self.loop.sleep(0.001)


def test_ticks_once_when_the_deadline_has_come() -> None:
    scene = Scene()
    scene.host.set_timer(scene.time + 10 * MS)
    scene.pass_time(9)
    assert not scene.ticks
    scene.pass_time(100)
    assert len(scene.ticks) == 1
    assert scene.loop.timers == 0


def test_deadline_that_is_put_off_arms_no_new_timer() -> None:
    scene = Scene()
    for _ in range(50):
        scene.host.set_timer(scene.time + 10 * MS)
        assert scene.loop.timers == 1
        scene.pass_time(1)
    assert not scene.ticks
    scene.pass_time(20)
    assert len(scene.ticks) == 1


def test_nearer_deadline_wins() -> None:
    scene = Scene()
    scene.host.set_timer(scene.time + 100 * MS)
    scene.host.set_timer(scene.time + 10 * MS)
    assert scene.loop.timers == 1
    scene.pass_time(11)
    assert len(scene.ticks) == 1
    scene.pass_time(200)
    assert len(scene.ticks) == 1


def test_loop_that_is_early_waits_for_the_clock() -> None:
    scene = Scene()
    deadline = scene.time + 10 * MS
    scene.host.set_timer(deadline)
    scene.pass_time(100, boot=MS // 5)
    assert len(scene.ticks) == 1
    assert scene.ticks[0] >= deadline


def test_deadline_in_the_past_comes_soon_and_not_at_once() -> None:
    scene = Scene()
    scene.host.set_timer(scene.time - 1)
    assert not scene.ticks
    scene.loop.sleep(0)
    assert len(scene.ticks) == 1


def test_set_again_from_the_tick() -> None:
    scene = Scene()

    def tick() -> None:
        scene.ticks.append(scene.time)
        scene.host.set_timer(scene.time + 10 * MS)

    scene.host.start(tick)
    scene.host.set_timer(scene.time + 10 * MS)
    scene.pass_time(101)
    assert len(scene.ticks) == 10


def test_timer_set_before_the_start_counts() -> None:
    loop = ManualLoop()
    host, ticks = LoopHost(loop.loop), []
    host.now = lambda: 1
    host.set_timer(1)
    loop.sleep(1)
    host.start(lambda: ticks.append(1))
    loop.sleep(1)
    assert ticks == [1]


def test_stopped_host_is_silent() -> None:
    scene = Scene()
    scene.host.set_timer(scene.time)
    scene.host.stop()
    scene.host.set_timer(scene.time)
    scene.pass_time(10)
    assert not scene.ticks


def test_call_soon_and_chance_and_clock() -> None:
    scene = Scene()
    called: list[int] = []
    scene.host.call_soon(lambda: called.append(1))
    assert not called
    scene.loop.turn()
    assert called == [1]
    assert all(0 <= scene.host.random_bits(63) < 2**63 for _ in range(100))
    assert boot_time_ns() <= boot_time_ns()


# --- turns ----------------------------------------------------------------------------------------------------


def test_a_batch_has_its_turn_at_once() -> None:
    scene = Scene()
    told: list[str] = []

    def batch() -> None:
        scene.host.call_soon(lambda: told.append("turn"))
        at_end(scene.loop.loop, lambda: told.append("end"))
        told.append("batch")

    scene.host.run(batch)
    assert told == ["batch", "turn", "end"]
    scene.loop.turn()
    assert told == ["batch", "turn", "end"]


def test_after_a_standstill_sockets_are_read_before_the_turn() -> None:
    """Scenario 34: a loop that stalled has not heard what is in its sockets. Who judges by the clock alone gives up a
    healthy leader."""
    scene = Scene()
    told: list[str] = []

    def batch() -> None:
        scene.host.call_soon(lambda: told.append("turn"))
        told.append("batch")

    scene.host.set_timer(scene.time + 10 * MS)
    scene.time += 10 * MS  # and the loop did not run
    scene.host.run(batch)
    assert told == ["batch"]
    scene.loop.turn()
    assert told == ["batch", "turn"]


def test_what_a_turn_asks_for_comes_from_the_loop() -> None:
    """Else a node with much to do would not look at its sockets until it has done it."""
    scene = Scene()
    turns: list[int] = []

    def turn() -> None:
        turns.append(len(turns))
        if len(turns) < 3:
            scene.host.call_soon(turn)

    scene.host.run(lambda: scene.host.call_soon(turn))
    assert turns == [0]
    scene.loop.turn()
    assert turns == [0, 1, 2]


def test_a_batch_that_fails_has_its_turn_all_the_same() -> None:
    scene = Scene()
    turns: list[int] = []

    def batch() -> None:
        scene.host.call_soon(lambda: turns.append(1))
        raise ValueError("the batch")

    with pytest.raises(ValueError, match="the batch"):
        scene.host.run(batch)
    assert turns == [1]
    scene.host.call_soon(lambda: turns.append(2))
    assert turns == [1]
    scene.loop.turn()
    assert turns == [1, 2]


async def test_another_thread_posts_a_batch() -> None:
    host = LoopHost(asyncio.get_running_loop())
    here = threading.current_thread()
    told: list[threading.Thread] = []
    thread = threading.Thread(
        target=host.post, args=(lambda: host.call_soon(lambda: told.append(threading.current_thread())),)
    )
    thread.start()
    thread.join()
    assert not told
    await asyncio.sleep(0)
    assert told == [here]
