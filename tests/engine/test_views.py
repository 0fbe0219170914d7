"""Pinned views through both clients of an engine that runs: the same, embedded and remote."""

import asyncio
from pathlib import Path

import pytest

from d_engine import KeyValue, Put
from d_engine.engine.config_sections import LimitsConfig
from d_engine.engine.views import PinnedViews
from d_engine.format.errors import InvalidRequestError, ViewExpiredError, ViewLimitError
from d_engine.format.state_machine import ApplyContext
from d_engine.kv.commands import encode_put
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.queries import encode_count_range
from d_engine.kv.view_queries import MARK, OpenView, ViewOpened, decode_answer, encode_question
from tests.engine.test_leases import BOTH, client_in


@BOTH
async def test_all_pages_are_of_one_revision_whatever_is_written_meanwhile(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client:
        await client.write_batch([Put(f"a/{number:04}", f"{number}") for number in range(2500)])
        await client.put("b", "outside")
        async with client.snapshot(prefix="a/") as view:
            seen: list[KeyValue] = []
            async for page in view.pages(100):
                await client.put(f"a/{len(seen):04}", "changed")
                await client.delete(f"a/{2400 + len(seen) // 100:04}")
                assert page.revision == view.revision == 2501
                seen += page.items
            assert [(entry.key, entry.value) for entry in seen] == [
                (b"a/%04d" % number, b"%d" % number) for number in range(2500)
            ]
            assert [entry async for entry in view] == seen
            assert await view.get("a/2400") == b"2400"
            assert await view.get("a/none") is await view.get("b") is None
            names = [page async for page in view.pages(10_000, keys_only=True)]
            assert [len(page.items) for page in names] == [2500]
            assert {entry.value for entry in names[0].items} == {b""}
        assert await client.get("a/0000") == b"changed"


@BOTH
async def test_a_range_and_nothing(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client:
        for key in "abcd":
            await client.put(key, key)
        async with client.snapshot(start="b", end="d") as view:
            assert [entry.key async for entry in view] == [b"b", b"c"]
        async with client.snapshot(prefix="none") as view:
            assert [entry async for entry in view] == []
        with pytest.raises(InvalidRequestError):
            client.snapshot(prefix="a", start="b")
        async with client.snapshot() as view:
            with pytest.raises(InvalidRequestError):
                await anext(view.pages(0))
            assert (await view.get_entries(["a", "x", "d"]))[1] is None


@BOTH
async def test_there_are_few_at_a_time(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind, LimitsConfig(max_pinned_views=3)) as client:
        held = [client.snapshot() for _ in range(3)]
        for each in held:
            await each.__aenter__()
        with pytest.raises(
            ViewLimitError, match=r"3 pinned views, as many as it may \(limits.max_pinned_views"
        ):
            async with client.snapshot():
                pass
        assert (await client.status()).metrics["pinned_views"] == 3
        await held[0].__aexit__(None, None, None)
        async with client.snapshot():
            pass
        for each in held[1:]:
            await each.__aexit__(None, None, None)


@BOTH
async def test_none_is_kept_for_long(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind, LimitsConfig(pinned_view_s=0.05)) as client:
        await client.put("a", "")
        async with client.snapshot() as view:

            async def read_for_ever() -> None:
                while True:
                    await view.get("a")
                    await asyncio.sleep(0.01)

            with pytest.raises(ViewExpiredError, match="no pinned view"):
                await read_for_ever()


async def test_what_is_asked_wrongly_is_answered() -> None:
    machine = KvStateMachine()
    pinned = PinnedViews(machine, lambda count: 7, 4, 60.0)
    for wrong in (MARK, MARK + b"\x90", MARK + b"\x92\x02\x01", MARK + b"\xff" * 5):
        with pytest.raises(InvalidRequestError, match="does not decode"):
            decode_answer(pinned.query(wrong))
    assert pinned.query(encode_count_range(b"", None)) == machine.query(encode_count_range(b"", None))


async def test_a_view_is_let_go_in_steps() -> None:
    machine = KvStateMachine()
    machine.apply([encode_put(b"%d" % number, b"") for number in range(5000)], ApplyContext(1, 1, 0))
    pinned = PinnedViews(machine, lambda count: 7, 4, 60.0)
    opened = decode_answer(pinned.query(encode_question(OpenView())))
    assert opened == ViewOpened(8, 5000, 5000, 60.0)
    assert len(pinned) == 1
    view, _ = pinned._views[8]
    pinned._views[8][1].cancel()
    pinned._let_go(8)
    assert len(pinned) == 0
    assert view._shards._dicts
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not view._shards._dicts
