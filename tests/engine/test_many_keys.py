"""Transactions, ranges and batches through a client of an engine that runs."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from d_engine import (
    Client,
    Compare,
    Delete,
    DeleteRange,
    DeleteRangeResult,
    DeleteResult,
    EmbeddedEngine,
    Get,
    GetRange,
    KeyValue,
    Put,
    Scan,
    TxnResult,
    WriteResult,
)
from d_engine.format.errors import DEngineError, InvalidRequestError, OverloadedError


@asynccontextmanager
async def client_in(path: Path) -> AsyncIterator[Client]:
    async with EmbeddedEngine(path / "data") as engine:
        yield engine.client


async def test_a_transaction_answers_like_the_single_calls(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        await client.write_batch([Put("a/1", "x"), Put("a/2", "x"), Put("b", "x"), Put("c", "x")])
        result = await client.txn(
            when=[Compare.absent("new"), Compare.value(b"b", "==", "x")],
            then=[
                Put("new", "1"),
                Delete("b"),
                Delete("none"),
                DeleteRange(prefix="a/"),
                Get("new"),
                Get("b"),
                GetRange(prefix="", limit=1),
            ],
        )
        new = KeyValue(b"new", b"1", 5, 5, 1)
        assert result == TxnResult(
            True,
            5,
            (
                WriteResult(5),
                DeleteResult(5, True),
                DeleteResult(5, False),
                DeleteRangeResult(5, 2),
                new,
                None,
                Scan(5, (KeyValue(b"c", b"x", 4, 4, 1),), True),
            ),
        )
        other = await client.txn(when=[Compare.absent("new")], then=[Put("new", "2")], otherwise=[Get("new")])
        assert other == TxnResult(False, 5, (new,))
        assert await client.txn() == TxnResult(True, 5, ())


async def test_every_condition(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        await client.put("k", "m")
        await client.put("k", "m")

        async def holds(*conditions: Compare) -> bool:
            return (await client.txn(when=conditions)).succeeded

        assert await holds(
            Compare.value("k", "==", "m"),
            Compare.value("k", "<", "n"),
            Compare.version("k", "==", 2),
            Compare.create_revision("k", "<", 2),
            Compare.mod_revision("k", ">", 1),
            Compare.lease("k", "!=", 7),
            Compare.exists("k"),
            Compare.absent("other"),
        )
        for wrong in (
            Compare.value("k", "!=", "m"),
            Compare.value("other", "<", "m"),
            Compare.version("k", ">", 2),
            Compare.create_revision("other", ">", 0),
            Compare.mod_revision("k", "==", 1),
            Compare.lease("k", "==", 7),
            Compare.exists("other"),
            Compare.absent("k"),
        ):
            assert not await holds(wrong), wrong


async def test_mistakes_are_found_before_anything_is_sent(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        for text, wrong in {
            "twice": {"then": [Put("a", "1"), Delete("a")]},
            "deletes a range": {"otherwise": [Put("a/1", ""), DeleteRange(prefix="a/")]},
            "overlap": {"then": [DeleteRange(start="a"), DeleteRange(prefix="b")]},
            "129 items in `then`": {"then": [Get("a")] * 129},
            "129 items in `when`": {"when": [Compare.exists("a")] * 129},
            "not by both": {"then": [GetRange(start="a", prefix="a")]},
            "needs `start` or `prefix`": {"then": [DeleteRange(end="a")]},
            "1 to 1000 entries": {"then": [GetRange(prefix="a", limit=1001)]},
            "too long": {"then": [Get("k" * 1025)]},
            "no operation of a transaction": {"then": ["a"]},
            "is no condition": {"when": [True]},
            "must be one of": {"when": [Compare("a", "version", "<=", 1)]},  # type: ignore[arg-type]
            "not with a number": {"when": [Compare("a", "value", "==", 1)]},
            "number from 0, not -1": {"when": [Compare.version("a", "==", -1)]},
            "number from 0, not '1'": {"when": [Compare("a", "version", "==", "1")]},
            "compares leases by size": {"when": [Compare("a", "lease", "<", 1)]},
            "is too large": {"then": [Put(f"{n}", bytes(2**20)) for n in range(9)]},
        }.items():
            with pytest.raises(InvalidRequestError, match=text):
                await client.txn(**wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="is no write"):
            await client.write_batch([Put("a", ""), Get("a")])  # type: ignore[list-item]
        with pytest.raises(InvalidRequestError, match="limit must be at least 1"):
            client.range(limit=0)
        with pytest.raises(InvalidRequestError, match="time-out"):
            await client.delete_prefix("", timeout=0)
        assert (await client.status()).revision == 0


async def test_transactions_with_large_results(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        await client.put("large", bytes(2**20))
        many = [client.txn(then=[Put(f"k{n}", "x"), Get("large")]) for n in range(20)]
        small = [client.txn(then=[Put(f"s{n}/{step}", "") for step in range(100)]) for n in range(20)]
        answers = await asyncio.gather(*many, *small)
        assert sorted(answer.revision for answer in answers) == list(range(2, 42))
        with pytest.raises(InvalidRequestError, match="reads would find"):
            await client.txn(then=[Put("k", ""), Get("large"), Get("large")])
        assert (await client.status()).revision == 41


async def test_transfers_keep_the_sum_for_everybody(tmp_path: Path) -> None:
    """Writers move money, readers of every kind look: scans, multi-gets, transactions, and the caller's thread."""
    accounts = [f"account/{n}" for n in range(5)]
    async with client_in(tmp_path) as client:
        await client.write_batch([Put(account, "100") for account in accounts])

        async def transfer(seed: int) -> int:
            rng, done = random.Random(seed), 0
            while done < 30:
                source, target = rng.sample(accounts, 2)
                ours, theirs = await client.get_multi([source, target])
                assert ours is not None
                assert theirs is not None
                amount = min(rng.randrange(1, 20), int(ours))
                result = await client.txn(
                    when=[Compare.value(source, "==", ours), Compare.value(target, "==", theirs)],
                    then=[Put(source, str(int(ours) - amount)), Put(target, str(int(theirs) + amount))],
                )
                done += result.succeeded
            return done

        async def look() -> None:
            while True:
                scan = await client.scan_prefix("account/")
                assert sum(int(entry.value) for entry in scan.items) == 500
                values = await client.get_multi(accounts, consistency="eventual")
                assert sum(int(value or 0) for value in values) == 500
                page = await anext(client.range(prefix="account/", reverse=True))
                assert sum(int(entry.value) for entry in page.items) == 500
                entries = [await client.get_entry(account, consistency="eventual") for account in accounts]
                assert all(entry is not None and int(entry.value) >= 0 for entry in entries)

        looking = asyncio.ensure_future(look())
        assert sum(await asyncio.gather(*map(transfer, range(4)))) == 120
        assert not looking.done()
        looking.cancel()
        assert (await client.status()).revision == 125


# --- ranges -------------------------------------------------------------------------------------------------


async def test_a_range_in_pages(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        await client.write_batch([Put(f"{n:03}", f"v{n}") for n in range(250)])
        keys = [b"%03d" % n for n in range(250)]

        async def read(**arguments: object) -> list[list[bytes]]:
            pages = client.range(**arguments)  # type: ignore[arg-type]
            return [[entry.key for entry in page.items] async for page in pages]

        assert await read(limit=100) == [keys[:100], keys[100:200], keys[200:]]
        assert await read(limit=125) == [keys[:125], keys[125:]]
        assert await read(prefix="1", limit=60) == [keys[100:160], keys[160:200]]
        assert await read(start="010", end="020") == [keys[10:20]]
        assert await read(start="240", reverse=True, limit=7) == [keys[:242:-1], keys[242:239:-1]]
        assert await read(prefix="1", after="197") == [keys[198:200]]
        assert await read(prefix="1", after="102", reverse=True) == [keys[101:99:-1]]
        assert await read(prefix="1", after="000", limit=100) == [keys[100:200]]
        assert await read(start="9") == [[]]
        async for page in client.range(keys_only=True, consistency="eventual", limit=200):
            assert page.revision == 250
            assert {entry.value for entry in page.items} == {b""}


async def test_each_page_is_a_moment_of_its_own(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        await client.write_batch([Put(key, "") for key in "abcdef"])
        seen: list[bytes] = []
        revisions: list[int] = []
        async for page in client.range(limit=2):
            seen += [entry.key for entry in page.items]
            revisions.append(page.revision)
            await client.write_batch([Put("aa", ""), Put("cc", ""), Delete("e")])
        assert seen == [b"a", b"b", b"c", b"cc", b"d", b"f"]
        assert revisions == [6, 9, 11]


async def test_a_pager_goes_on_where_it_failed(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        await client.write_batch([Put(key, "") for key in "abc"])
        pages = client.range(limit=2, consistency="eventual", min_revision=4, timeout=0.05)
        with pytest.raises(TimeoutError):
            await anext(pages)
        await client.put("d", "")
        assert [len(page.items) async for page in pages] == [2, 2]
        assert pages.revision == 4


async def test_count_and_deletion_of_ranges(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        await client.write_batch([Put(f"{prefix}/{n}", "") for prefix in "abc" for n in range(10)])
        assert (await client.count()).count == 30
        counted = await client.count(prefix="a/")
        assert (counted.count, counted.revision) == (10, 30)
        assert (await client.count(start="b/5", end="c/5", consistency="eventual")).count == 10
        assert await client.delete_prefix("a/") == DeleteRangeResult(31, 10)
        assert await client.delete_prefix("a/") == DeleteRangeResult(31, 0)
        assert await client.delete_range("b/8", "c/1") == DeleteRangeResult(32, 3)
        assert await client.delete_range("c/5", None) == DeleteRangeResult(33, 5)
        assert (await client.count()).count == 12
        assert (await client.delete_prefix("")).deleted == 12


# --- batches ------------------------------------------------------------------------------------------------


async def test_a_batch_has_a_result_for_each_write(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        results = await client.write_batch(
            [Put("a/1", "x"), Put("a/2", "x"), Delete("none"), Delete("a/1"), DeleteRange(prefix="a/")]
        )
        assert results == [
            WriteResult(1),
            WriteResult(2),
            DeleteResult(2, False),
            DeleteResult(3, True),
            DeleteRangeResult(4, 1),
        ]
        assert await client.write_batch([]) == []


async def test_a_batch_beyond_the_limit_is_done_in_part(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        results = await client.write_batch([Put(f"{n}", "") for n in range(10_005)])
        refused = [number for number, result in enumerate(results) if isinstance(result, OverloadedError)]
        assert refused == list(range(10_000, 10_005))
        assert (await client.count()).count == 10_000


async def test_a_batch_that_is_cancelled_waits_for_nothing(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        task = asyncio.ensure_future(client.write_batch([Put(f"{n}", "") for n in range(100)]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.put("after", "")
        assert await client.get("after") == b""


async def test_a_batch_of_a_stopped_engine(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        pass
    with pytest.raises(DEngineError):
        await client.txn(then=[Put("a", "")])
    results = await client.write_batch([Put("a", ""), Delete("b")])
    assert [getattr(result, "code", None) for result in results] == ["engine_stopped"] * 2
