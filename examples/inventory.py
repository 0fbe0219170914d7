"""A shop that never sells what it does not have: fifty buyers at once, and the leader is killed in the middle.

    python examples/inventory.py

A purchase is one transaction: if nobody has changed the stock since it was read, there is one less, and there is an
order. Whoever was too late reads again. A purchase whose outcome is unknown (the leader died with it) is looked up by
its order: it was made whole, or not at all.

The cluster is three `d-engine serve` processes on this machine, the buyers are tasks of one client.
"""

import asyncio
import tempfile
from pathlib import Path

import d_engine
from d_engine import Client, Compare, DEngineError, Put
from d_engine.testing.processes import LocalCluster

STOCK = 120
BUYERS = 50


async def buy(client: Client, order: str) -> bool:
    """Buy one. False if there is none left."""
    while True:
        stock = await client.get_entry("stock")
        if stock is None or int(stock.value) == 0:
            # An earlier attempt of ours may have been the one that took the last.
            return await client.get(f"order/{order}") is not None
        try:
            bought = await client.txn(
                when=[
                    Compare.mod_revision("stock", "==", stock.mod_revision),
                    Compare.absent(f"order/{order}"),
                ],
                then=[Put("stock", str(int(stock.value) - 1)), Put(f"order/{order}", "1")],
            )
        except DEngineError:
            bought = None
        if bought is not None and bought.succeeded:
            return True
        if await client.get(f"order/{order}") is not None:
            return True


async def shop(client: Client, buyer: int) -> int:
    """Buy until there is nothing left; returns how many."""
    count = 0
    while True:
        try:
            if not await buy(client, f"{buyer}/{count}"):
                return count
        except DEngineError:
            # A read that found no leader in time: nothing was bought by it. The same order is tried again.
            continue
        count += 1


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, LocalCluster(Path(folder)) as cluster:
        cluster.start()
        leader = await cluster.wait_leader()
        async with d_engine.connect(cluster.endpoints) as client:
            await client.put("stock", str(STOCK))
            shoppers = [asyncio.create_task(shop(client, buyer)) for buyer in range(BUYERS)]
            while int(await client.get("stock") or 0) > STOCK // 2:  # noqa: ASYNC110 - in the cluster
                await asyncio.sleep(0.005)
            cluster.nodes[leader].kill()
            print(f"node {leader}, the leader, is killed")
            sold = sum(await asyncio.gather(*shoppers))
            orders = (await client.count(prefix="order/")).count
            left = int(await client.get("stock") or 0)
            print(f"{STOCK} were there, {sold} are sold, {orders} orders, {left} left")
            assert (sold, orders, left) == (STOCK, STOCK, 0)


if __name__ == "__main__":
    asyncio.run(main())
