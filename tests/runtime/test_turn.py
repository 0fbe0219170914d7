"""The end of a turn (architecture, section 4: one wake-up of the loop for each batch)."""

import asyncio
import threading

import pytest

from d_engine.runtime.turn import at_end, run_turn


async def test_what_is_put_off_happens_at_the_turns_end_in_order() -> None:
    loop, said = asyncio.get_running_loop(), []

    def turn() -> None:
        at_end(loop, lambda: said.append("first"))
        at_end(loop, lambda: said.append("second"))
        said.append("turn")

    run_turn(turn)
    assert said == ["turn", "first", "second"]


async def test_outside_of_a_turn_it_happens_soon_and_not_at_once() -> None:
    loop, said = asyncio.get_running_loop(), []
    at_end(loop, lambda: said.append("soon"))
    assert not said
    await asyncio.sleep(0)
    assert said == ["soon"]


async def test_an_action_at_the_end_may_put_off_another_one() -> None:
    """It is outside of the turn by then."""
    loop, said = asyncio.get_running_loop(), []
    run_turn(lambda: at_end(loop, lambda: at_end(loop, lambda: said.append("later"))))
    assert not said
    await asyncio.sleep(0)
    assert said == ["later"]


async def test_a_turn_that_fails_has_an_end_all_the_same() -> None:
    loop, said = asyncio.get_running_loop(), []

    def turn() -> None:
        at_end(loop, lambda: said.append("end"))
        raise ValueError("the turn failed")

    with pytest.raises(ValueError, match="the turn failed"):
        run_turn(turn)
    assert said == ["end"]
    at_end(loop, lambda: said.append("soon"))
    assert said == ["end"]
    await asyncio.sleep(0)
    assert said == ["end", "soon"]


async def test_a_turn_of_another_thread_is_none_of_this_ones() -> None:
    loop, said = asyncio.get_running_loop(), []
    inside, go_on = threading.Event(), threading.Event()

    def turn() -> None:
        inside.set()
        assert go_on.wait(10)

    thread = threading.Thread(target=run_turn, args=(turn,))
    thread.start()
    assert inside.wait(10)
    at_end(loop, lambda: said.append("soon"))
    go_on.set()
    thread.join()
    assert not said
    await asyncio.sleep(0)
    assert said == ["soon"]
