"""The engine inside a process: one node, nothing configured."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from d_engine import EmbeddedEngine, EngineConfig
from d_engine.engine.embedded_client import EmbeddedClient
from d_engine.format.errors import (
    ConfigError,
    CorruptionError,
    EngineStoppedError,
    ForkedError,
    InvalidRequestError,
    OutcomeUnknownError,
    UnavailableError,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def test_it_elects_itself_and_serves(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:
        assert engine.is_leader
        assert engine.leader is not None
        written = await engine.client.put("greeting", "hello")
        assert written.revision == 1
        assert await engine.client.get("greeting") == b"hello"
        assert await engine.client.get("absent") is None


async def test_what_was_acknowledged_is_there_after_a_restart(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:
        for number in range(50):
            await engine.client.put(f"key {number}", f"value {number}")
    async with EmbeddedEngine(data) as engine:
        values = await engine.client.get_multi([f"key {number}" for number in range(50)])
        assert values == [b"value %d" % number for number in range(50)]


async def test_every_operation_of_the_interface(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:
        client = engine.client
        first = await client.put(b"", b"")
        assert (await client.get_entry("")) is not None
        replaced = await client.put("", "two", previous=True)
        assert replaced.revision == first.revision + 1
        assert replaced.previous is not None
        assert replaced.previous.value == b""
        assert await client.compare_and_swap("lock", None, "me")
        assert not await client.compare_and_swap("lock", None, "you")
        assert await client.compare_and_swap("lock", "me", "you")
        entry = await client.get_entry("lock")
        assert entry is not None
        assert (entry.value, entry.version) == (b"you", 2)
        assert entry.mod_revision > entry.create_revision
        assert (await client.delete("lock")).deleted
        assert not (await client.delete("lock")).deleted
        await client.put("dir/b", "2")
        await client.put("dir/a", "1")
        scan = await client.scan_prefix("dir/")
        assert [(item.key, item.value) for item in scan.items] == [(b"dir/a", b"1"), (b"dir/b", b"2")]
        assert await client.get_multi(["dir/b", "none", "dir/b"]) == [b"2", None, b"2"]
        status = await client.status()
        assert (status.role, status.leader_ready, status.revision) == ("leader", True, scan.revision)
        assert [member.id for member in await client.members()] == [1]
        leader = await client.leader()
        assert leader is not None
        assert leader.leader_id == 1


async def test_local_reads_see_acknowledged_writes(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:
        written = await engine.client.put("k", "v")
        assert await engine.client.get("k", consistency="eventual", min_revision=written.revision) == b"v"
        assert await engine.client.get("k", consistency="lease") == b"v"
        entry = await engine.client.get_entry("k", consistency="eventual")
        assert entry is not None
        assert entry.mod_revision == written.revision


async def test_eventual_reads_do_not_suspend_but_let_others_run(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:
        await engine.client.put("k", "v")
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.create_task(count_turns())
        for _ in range(100):
            await engine.client.get("k", consistency="eventual")
        assert turns == 0
        for _ in range(2000):
            await engine.client.get("k", consistency="eventual")
        assert 5 <= turns <= 20
        counter.cancel()


async def test_a_confirmed_read_looks_the_key_up_itself(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linearizable reads of single keys: the engine confirms, and looks up only in the midst of a change."""
    async with EmbeddedEngine(data) as engine:
        client = engine.client
        assert isinstance(client, EmbeddedClient)
        written = await client.put("k", "v")
        backend, store = client._node.core.backend, client._store
        assert store is not None
        asked: list[bytes] = []
        answer = backend.query

        def query(request: bytes) -> bytes:
            asked.append(request)
            return answer(request)

        monkeypatch.setattr(backend, "query", query)
        assert await client.get("k") == b"v"
        assert await client.get("absent") is None
        assert await client.get("k", min_revision=written.revision) == b"v"
        entry = await client.get_entry("k")
        assert entry is not None
        assert entry.mod_revision == written.revision
        assert not asked
        monkeypatch.setattr(store, "epoch", store.epoch + 1)
        assert await client.get("k") == b"v"
        assert await client.get_entry("absent") is None
        assert len(asked) == 2


async def test_a_read_that_asks_twice_has_its_time_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of a change the engine is asked again, for what is left of the time."""
    async with EmbeddedEngine(data) as engine:
        client = engine.client
        assert isinstance(client, EmbeddedClient)
        await client.put("k", "v")
        store, ask = client._store, client._ask
        assert store is not None
        times: list[float] = []

        def noted(
            query: bytes, consistency: str, min_revision: int | None, timeout: float | None
        ) -> "asyncio.Future[bytes]":
            assert timeout is not None
            times.append(timeout)
            return ask(query, consistency, min_revision, timeout)

        monkeypatch.setattr(client, "_ask", noted)
        monkeypatch.setattr(store, "epoch", store.epoch + 1)
        assert await client.get("k", timeout=5.0) == b"v"
        assert times[0] == 5.0
        assert 0 < times[1] < 5.0


async def test_a_confirmed_read_is_not_made_of_a_state_that_was_given_up(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine says yes, and finds that its state is wrong before the caller's loop has heard of it."""
    async with EmbeddedEngine(data) as engine:
        client = engine.client
        assert isinstance(client, EmbeddedClient)
        await client.put("k", "v")
        guard = client._health
        ask = client._ask

        def ask_and_give_up(
            query: bytes, consistency: str, min_revision: int | None, timeout: float | None
        ) -> "asyncio.Future[bytes]":
            future = ask(query, consistency, min_revision, timeout)
            future.add_done_callback(lambda future: monkeypatch.setattr(guard, "closed", True))
            return future

        monkeypatch.setattr(client, "_ask", ask_and_give_up)
        with pytest.raises(UnavailableError, match="quarantine"):
            await client.get("k")


async def test_too_large_keys_and_values_are_refused_before_anything_is_written(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:
        with pytest.raises(InvalidRequestError, match="1024"):
            await engine.client.put(b"k" * 1025, b"v")
        with pytest.raises(InvalidRequestError, match="1048576"):
            await engine.client.put(b"k", b"v" * (1024 * 1024 + 1))
        written = await engine.client.put(b"k" * 1024, b"v" * 1024 * 1024)
        assert written.revision == 1


async def test_two_loops_share_one_engine(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:

        def other_thread() -> None:
            async def write() -> None:
                await asyncio.gather(*(engine.client.put(f"other {number}", "x") for number in range(100)))

            asyncio.run(write())

        thread = threading.Thread(target=other_thread)
        thread.start()
        await asyncio.gather(*(engine.client.put(f"this {number}", "x") for number in range(100)))
        await asyncio.to_thread(thread.join)
        assert (await engine.client.status()).revision == 200


async def test_a_loop_that_went_away_takes_its_results_with_it_and_nothing_else(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:

        def hasty() -> None:
            async def write_and_leave() -> None:
                task = asyncio.ensure_future(engine.client.put("hasty", "x"))
                await asyncio.sleep(0)
                task.cancel()

            asyncio.run(write_and_leave())

        for _ in range(5):
            await asyncio.to_thread(hasty)
        await engine.client.put("steady", "x")
        assert await engine.client.get("steady") == b"x"


async def test_a_stopped_engine_says_so(data: Path) -> None:
    engine = EmbeddedEngine(data)
    with pytest.raises(EngineStoppedError):
        _ = engine.client
    async with engine:
        client = engine.client
    with pytest.raises(EngineStoppedError):
        await client.put("k", "v")
    with pytest.raises(EngineStoppedError):
        await client.get("k", consistency="eventual")
    await engine.stop()
    assert engine.failed is None


async def test_whoever_waits_when_the_engine_dies_gets_an_answer(data: Path) -> None:
    engine = EmbeddedEngine(data)
    await engine.start()
    await engine.wait_ready()
    writes = [asyncio.ensure_future(engine.client.put(f"k{number}", "v")) for number in range(100)]
    await asyncio.sleep(0)
    died = CorruptionError("the test says so")
    engine.node.thread.loop.call_soon_threadsafe(engine.node.core.replica.fail, died)
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert all(
        not isinstance(outcome, BaseException)
        or isinstance(outcome, OutcomeUnknownError | EngineStoppedError)
        for outcome in outcomes
    )
    with pytest.raises(EngineStoppedError, match="the test says so"):
        await engine.client.put("k", "v")
    await engine.stop()
    assert engine.failed is died


async def test_a_forked_child_is_told_to_start_its_own(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:
        await engine.client.put("k", "v")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                engine.client.get("k", consistency="eventual").send(None)
            except ForkedError:
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert await engine.client.get("k") == b"v"


def test_an_engine_needs_a_directory_or_a_configuration() -> None:
    with pytest.raises(ConfigError, match="data directory"):
        EmbeddedEngine()


async def test_a_configuration_may_be_an_object_or_a_file(data: Path, tmp_path: Path) -> None:
    async with EmbeddedEngine(config=EngineConfig.single_node(data)) as engine:
        await engine.client.put("k", "v")
    file = tmp_path / "engine.toml"
    file.write_text(f'[node]\ndata_dir = "{data}"\n')
    async with EmbeddedEngine(config=file) as engine:
        assert await engine.client.get("k") == b"v"
    async with EmbeddedEngine(tmp_path / "elsewhere", config=file) as engine:
        assert await engine.client.get("k") is None


async def test_leader_changes_and_members_can_be_followed(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:
        async for leader in engine.leader_changes():
            assert leader is not None
            break
        members = await engine.watch_membership().wait_for(lambda members: members is not None)
        assert members is not None
        assert "leader" in repr(engine)
        await engine.client.put("k", "v")
        assert engine.metrics()["commands_applied"] == 1
        assert engine.metrics()["elections_won"] == 1


async def test_loops_that_went_away_are_forgotten(data: Path) -> None:
    async with EmbeddedEngine(data) as engine:

        async def write() -> None:
            await engine.client.put("k", "v")

        for _ in range(20):
            await asyncio.to_thread(asyncio.run, write())
        assert len(engine.node.thread._on_end) <= 6


async def test_a_start_that_was_cancelled_leaves_the_directory_free(data: Path) -> None:
    engine = EmbeddedEngine(data)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await engine.start()
    await engine.stop()
    for _ in range(500):
        if not any(thread.name == "d-engine-1" for thread in threading.enumerate()):
            break
        await asyncio.sleep(0.01)
    async with EmbeddedEngine(data) as another:
        await another.client.put("k", "v")


async def test_an_engine_that_dies_of_a_bug_says_of_which(data: Path) -> None:
    def bug() -> None:
        raise ZeroDivisionError("the test says so")

    engine = EmbeddedEngine(data)
    await engine.start()
    await engine.wait_ready()
    engine.node.thread.loop.call_soon_threadsafe(bug)
    for _ in range(500):
        if engine.failed is not None:
            break
        await asyncio.sleep(0.01)
    assert isinstance(engine.failed, ZeroDivisionError)
    with pytest.raises(EngineStoppedError, match="the test says so"):
        await engine.client.put("k", "v")
    await engine.stop()


async def test_a_change_that_was_under_way_at_the_end_is_of_unknown_outcome(data: Path) -> None:
    engine = EmbeddedEngine(data)
    await engine.start()
    await engine.wait_ready()
    change = asyncio.ensure_future(engine.client.add_learner(7, "127.0.0.1:17907"))
    for _ in range(3):
        await asyncio.sleep(0)
    await engine.stop()
    outcome = (await asyncio.gather(change, return_exceptions=True))[0]
    assert outcome is None or isinstance(outcome, OutcomeUnknownError)
