"""The node from start to stop: each row of the container that it stands for."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from d_engine.client.api import LeaderInfo
from d_engine.engine.builder import NodeBuilder
from d_engine.engine.config import EngineConfig, load_config
from d_engine.engine.core import NodeCore
from d_engine.engine.node import Node
from d_engine.engine.opening import Opening
from d_engine.engine.parts import NodeParts, default_storage
from d_engine.format.errors import (
    ConfigError,
    CorruptionError,
    DataDirectoryError,
    DataDirectoryLockedError,
    EngineStoppedError,
    OutcomeUnknownError,
)
from d_engine.kv.machine import KvStateMachine
from d_engine.replica.listener import Health, ReplicaListener
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.ports import Host
from d_engine.runtime import disk as disk_module
from d_engine.storage.api import LogStorage
from d_engine.storage.disk import Disk
from d_engine.testing.processes import free_ports


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    return EngineConfig.single_node(tmp_path / "data")


async def leading(node: Node) -> LeaderInfo:
    leader = await node.leader_change_notifier().wait_for(lambda leader: leader is not None)
    assert leader is not None
    return leader


async def test_a_node_is_ready_when_it_runs_and_not_after_it_stopped(config: EngineConfig) -> None:
    node = await NodeBuilder(config).start()
    ready = node.ready_notifier()
    assert not node.is_rpc_ready
    running = asyncio.create_task(node.run())
    assert await ready.wait_for(bool)
    assert node.is_rpc_ready
    await node.stop()
    assert not node.is_rpc_ready
    assert ready.value is False
    await running


async def test_setting_ready_twice_wakes_nobody_the_second_time(config: EngineConfig) -> None:
    node = await NodeBuilder(config).start()
    notifier = node.ready_notifier()
    node.set_rpc_ready(True)
    assert await notifier.changed() is True
    node.set_rpc_ready(True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(notifier.changed(), 0.01)
    await node.stop()


async def test_ready_does_not_mean_that_there_is_a_leader(tmp_path: Path) -> None:
    config = EngineConfig.single_node(tmp_path / "data")
    node = await NodeBuilder(config).start()
    node.set_rpc_ready(True)
    assert node.is_rpc_ready
    assert node.leader is None
    await node.stop()


async def test_a_leader_is_announced_once_its_first_entry_is_applied(config: EngineConfig) -> None:
    node = await NodeBuilder(config).start()
    assert node.leader_change_notifier().value is None
    running = asyncio.create_task(node.run())
    leader = await leading(node)
    assert leader == LeaderInfo(1, 1)
    assert node.core.replica.raft.ready
    assert node.core.replica.applier.applied_index >= 1
    await node.stop()
    assert node.leader is None
    await running


async def test_the_members_are_announced_when_they_are_applied(config: EngineConfig) -> None:
    node = await NodeBuilder(config).start()
    running = asyncio.create_task(node.run())
    members = await node.membership_change_notifier().wait_for(lambda members: members is not None)
    assert members is not None
    assert [(member.id, member.role) for member in members.members] == [(1, "voter")]
    await node.stop()
    await running


async def test_stop_is_idempotent_and_may_come_before_run(config: EngineConfig) -> None:
    node = await NodeBuilder(config).start()
    await node.stop()
    await node.stop()
    await node.run()
    assert "stopped" in repr(node)


async def test_repr_tells_role_term_leader_and_indices(config: EngineConfig) -> None:
    node = await NodeBuilder(config).start()
    running = asyncio.create_task(node.run())
    await leading(node)
    assert repr(node) == "<Node 1 leader term=1 leader=1 commit=1 applied=1>"
    await node.stop()
    await running
    assert node.node_id == 1


async def test_the_data_directory_belongs_to_one_node_at_a_time(config: EngineConfig) -> None:
    node = await NodeBuilder(config).start()
    with pytest.raises(DataDirectoryLockedError):
        await NodeBuilder(config).start()
    await node.stop()
    again = await NodeBuilder(config).start()
    await again.stop()


async def test_another_nodes_directory_is_refused(config: EngineConfig) -> None:
    await (await NodeBuilder(config).start()).stop()
    other = replace(config, node=replace(config.node, id=2))
    with pytest.raises(DataDirectoryError, match="node"):
        await NodeBuilder(other).start()


async def test_a_foreign_directory_is_refused_and_left_alone(config: EngineConfig) -> None:
    folder = Path(config.node.data_dir)
    folder.mkdir()
    (folder / "letters.txt").write_text("mine")
    with pytest.raises(DataDirectoryError):
        await NodeBuilder(config).start()
    assert (folder / "letters.txt").read_text() == "mine"


async def test_a_corrupt_log_is_refused_and_left_alone(config: EngineConfig) -> None:
    node = await NodeBuilder(config).start()
    running = asyncio.create_task(node.run())
    await leading(node)
    await node.stop()
    await running
    (segment,) = Path(config.node.data_dir).glob("log-0*.wal")
    data = bytearray(segment.read_bytes())
    data[20] ^= 1
    segment.write_bytes(data)
    with pytest.raises(CorruptionError, match=segment.name):
        await NodeBuilder(config).start()
    assert segment.read_bytes() == data


async def test_a_directory_that_has_lost_its_log_is_refused(config: EngineConfig) -> None:
    await (await NodeBuilder(config).start()).stop()
    for segment in Path(config.node.data_dir).glob("log-*"):
        segment.unlink()
    with pytest.raises(CorruptionError, match="no log"):
        await NodeBuilder(config).start()
    assert [path.name for path in Path(config.node.data_dir).glob("log-*")] == []


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryError, match="file"):
        await NodeBuilder(EngineConfig.single_node(tmp_path / "file" / "data")).start()


def test_a_builder_needs_a_configuration() -> None:
    with pytest.raises(ConfigError, match="EngineConfig"):
        NodeBuilder("config.toml")  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["storage_engine", "state_machine", "transport"])
async def test_a_bad_part_is_named(config: EngineConfig, part: str) -> None:
    builder = NodeBuilder(config)
    getattr(builder, part)(None)
    with pytest.raises(ConfigError, match=part.split("_engine")[0]):
        await builder.start()


async def test_custom_parts_are_used(config: EngineConfig) -> None:
    machines: list[KvStateMachine] = []
    storages: list[LogStorage] = []

    class Machine(KvStateMachine):
        def __init__(self) -> None:
            super().__init__()
            machines.append(self)

    def storage(disk: Disk, host: Host, config: EngineConfig) -> LogStorage:
        storages.append(default_storage(disk, host, config))
        return storages[0]

    node = await NodeBuilder(config).state_machine(Machine).storage_engine(storage).start()
    assert node.core.replica.applier.state_machine is machines[0]
    assert node.core.replica.storage is storages[0]
    await node.stop()


async def test_a_node_can_be_made_around_a_core_of_ones_own(config: EngineConfig) -> None:
    made: list[NodeCore] = []

    def make_core(listener: ReplicaListener, opening: Opening) -> NodeCore:
        made.append(NodeCore(config, NodeParts(), listener, opening))
        return made[0]

    node = Node(config, make_core)
    await node.open()
    running = asyncio.create_task(node.run())
    await leading(node)
    assert node.core is made[0]
    await node.stop()
    await running


async def test_a_learner_that_cannot_join_gives_way_to_shutdown(tmp_path: Path) -> None:
    mine, theirs = (f"127.0.0.1:{port}" for port in free_ports(2))
    config = load_config(
        environ={},
        overrides={
            "node.id": "2",
            "node.data_dir": str(tmp_path / "data"),
            "cluster.listen": mine,
            "cluster.join": theirs,
        },
    )
    node = await NodeBuilder(config).start()
    ready = node.ready_notifier()
    running = asyncio.create_task(node.run())
    await ready.wait_for(bool)
    await asyncio.sleep(0)
    assert not running.done()
    await node.stop()
    await running


async def test_a_hung_disk_delays_the_end_no_longer_than_allowed(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await NodeBuilder(config).start()
    running = asyncio.create_task(node.run())
    await leading(node)
    hang = threading.Event()
    monkeypatch.setattr(disk_module, "_sync_descriptor", lambda descriptor, *, directory: hang.wait())
    outcomes: list[GroupOutcome] = []
    replica = node.core.replica
    node.thread.loop.call_soon_threadsafe(replica.open_session, 10**10, outcomes.append)
    while not replica.writes.waiting:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    await node.stop(seconds=0.2)
    assert len(outcomes) == 1
    assert isinstance(outcomes[0].error, OutcomeUnknownError)
    await running
    hang.set()


async def test_a_node_that_dies_says_why(config: EngineConfig) -> None:
    node = await NodeBuilder(config).start()
    running = asyncio.create_task(node.run())
    await leading(node)
    died = CorruptionError("the test says so")
    node.thread.loop.call_soon_threadsafe(node.core.replica.fail, died)
    with pytest.raises(CorruptionError, match="the test says so"):
        await running
    assert node.failure.value is died
    with pytest.raises(EngineStoppedError):
        _ = node.core
    await node.stop()


async def test_a_quarantine_is_said_once_however_far_it_goes(
    config: EngineConfig, caplog: pytest.LogCaptureFixture
) -> None:
    node = await NodeBuilder(config).start()
    for health in (
        Health("", "a record is damaged; until 5", "a record is damaged"),
        Health("", "a record is damaged; until 9", "a record is damaged"),
        Health("", "the state is wrong; until 9", "the state is wrong"),
        Health(),
    ):
        node.health_changed(health)
    assert [record.message for record in caplog.records] == [
        "node 1 is in quarantine: a record is damaged; until 5",
        "node 1 is in quarantine: the state is wrong; until 9",
        "node 1 is whole again",
    ]
    await node.stop()


async def test_a_full_disk_is_said_with_what_it_lacks_room_for(
    config: EngineConfig, caplog: pytest.LogCaptureFixture
) -> None:
    node = await NodeBuilder(config).start()
    for health in (
        Health(disk_full="the log has no room"),
        Health(disk_full="the log has no room"),
        Health(),
    ):
        node.health_changed(health)
    assert [record.message for record in caplog.records] == [
        "the disk of node 1 is full: the log has no room",
        "node 1 has room on its disk again",
    ]
    await node.stop()


async def test_a_node_that_dies_before_it_runs_says_why(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await NodeBuilder(config).start()
    closing, go_on, close = threading.Event(), threading.Event(), NodeCore.close

    def slow_close(core: NodeCore, seconds: float, failure: BaseException | None) -> None:
        closing.set()
        go_on.wait()
        close(core, seconds, failure)

    monkeypatch.setattr(NodeCore, "close", slow_close)
    died = CorruptionError("the test says so")
    node.thread.loop.call_soon_threadsafe(node.core.replica.fail, died)
    await asyncio.get_running_loop().run_in_executor(None, closing.wait)
    with pytest.raises(CorruptionError, match="the test says so"):
        await node.run()
    go_on.set()
    await node.stop()
