"""Latest-value subscriptions: newest state, not each step; equal values wake nobody."""

import asyncio
import threading

from d_engine.engine.latest import Latest, Subscription


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_changed_returns_the_newest_value_only() -> None:
    latest = Latest(0)
    subscription = latest.subscribe()
    for value in (1, 2, 3):
        latest.publish(value)
    assert await subscription.changed() == 3


async def test_an_equal_value_wakes_nobody() -> None:
    latest = Latest("a")
    subscription = latest.subscribe()
    waiting = asyncio.create_task(subscription.changed())
    await settle()
    latest.publish("a")
    await settle()
    assert not waiting.done()
    latest.publish("b")
    assert await waiting == "b"


async def test_one_loop_turn_from_event_to_notification() -> None:
    latest = Latest(0)
    subscription = latest.subscribe()
    waiting = asyncio.create_task(subscription.changed())
    await settle()
    latest.publish(1)
    await asyncio.sleep(0)  # the event is set
    await asyncio.sleep(0)  # the waiter runs
    assert waiting.done()


async def test_wait_for_returns_at_once_if_it_holds() -> None:
    subscription = Latest(5).subscribe()
    assert await subscription.wait_for(lambda value: value == 5) == 5


async def test_iteration_begins_with_the_present_value() -> None:
    latest = Latest(0)
    seen: list[int] = []

    async def collect(subscription: Subscription[int]) -> None:
        async for value in subscription:
            seen.append(value)

    collector = asyncio.create_task(collect(latest.subscribe()))
    await settle()
    latest.publish(1)
    await settle()
    latest.publish(2)
    await settle()
    collector.cancel()
    assert seen == [0, 1, 2]


async def test_values_published_on_another_thread_arrive() -> None:
    latest = Latest(0)
    subscription = latest.subscribe()
    thread = threading.Thread(target=lambda: list(map(latest.publish, range(1, 1001))))
    thread.start()
    assert await subscription.wait_for(lambda value: value == 1000) == 1000
    thread.join()


async def test_a_closed_subscription_is_forgotten() -> None:
    latest = Latest(0)
    subscription = latest.subscribe()
    subscription.close()
    waiting = asyncio.create_task(subscription.changed())
    await settle()
    latest.publish(1)
    await settle()
    assert not waiting.done()
    waiting.cancel()


def test_a_subscriber_whose_loop_is_closed_disturbs_nobody() -> None:
    latest = Latest(0)

    async def subscribe() -> None:
        latest.subscribe()

    asyncio.run(subscribe())
    latest.publish(1)
    assert latest.value == 1


async def test_kept_values_come_one_by_one() -> None:
    latest: Latest[int] = Latest(0, keep=3)
    subscription = latest.subscribe()
    for value in (1, 2):
        latest.publish(value)
    assert [await subscription.changed() for _ in range(2)] == [1, 2]

    for value in (3, 4, 5, 6):
        latest.publish(value)
    assert [await subscription.changed() for _ in range(3)] == [4, 5, 6]


async def test_iteration_begins_with_the_newest_and_repeats_nothing() -> None:
    latest: Latest[int] = Latest(0, keep=3)
    subscription = latest.subscribe()
    latest.publish(1)
    seen = []
    async for value in subscription:
        seen.append(value)
        latest.publish(value + 1)
        if value == 3:
            break
    assert seen == [1, 2, 3]
