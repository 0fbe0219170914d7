"""Clusters of real processes whose members change: growing, shrinking, moving, restarting, under load."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d_engine.client.remote import RemoteClient, connect
from d_engine.format.errors import ChangePendingError, DEngineError, MembershipError
from d_engine.testing.processes import LocalCluster, ServerProcess, free_ports

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[2] / "examples" / "single_node_expansion.py"


def newcomer(
    cluster: LocalCluster, folder: Path, node_id: int, settings: dict[str, str] | None = None
) -> ServerProcess:
    """A node that joins from nothing."""
    (port,) = free_ports(1)
    joining = {"cluster.join": cluster.endpoints, **(settings or {})}
    node = cluster.nodes[node_id] = ServerProcess(node_id, folder, f"127.0.0.1:{port}", joining)
    node.start()
    return node


async def roles(client: RemoteClient) -> dict[int, str]:
    return {member.id: member.role for member in await client.members()}


async def until_roles(client: RemoteClient, wanted: dict[int, str], seconds: float = 30.0) -> None:
    found: dict[int, str] = {}
    try:
        async with asyncio.timeout(seconds):
            while found != wanted:
                found = await roles(client)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"the members are {found}, not {wanted}: {await client.status()}") from None


def command(cluster: LocalCluster, *words: str) -> tuple[int, str]:
    """`d-engine members ...`: exit code and what it printed."""
    arguments = [sys.executable, "-m", "d_engine.cli", "members", "-e", cluster.endpoints, *words]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def test_the_example_of_growth_holds_what_it_says() -> None:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "none failed" in ended.stdout
    assert "every acknowledged write is there" in ended.stdout


def test_the_command_line_changes_members(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        await cluster.wait_leader()
        async with connect(cluster.nodes[1].address, discover=False) as client:
            newcomer(cluster, tmp_path, 4)
            newcomer(cluster, tmp_path, 5, {"cluster.read_only": "true"})
            await until_roles(client, {1: "voter", 2: "voter", 3: "voter", 4: "learner", 5: "learner"})
            await cluster.wait_caught_up(4)
            await cluster.wait_caught_up(5)

            code, text = await asyncio.to_thread(command, cluster, "promote", "4")
            assert (code, "4 voters would tolerate" in text) == (5, True), text
            code, text = await asyncio.to_thread(command, cluster, "promote", "5", "4", "--force")
            assert (code, "read-only" in text) == (5, True), text
            async with connect(cluster.nodes[await cluster.wait_leader()].address, discover=False) as leader:
                peers = (await leader.status()).peers
            reasons = {peer.node_id: peer.promotion for peer in peers if peer.promotion}
            assert "waits for one more learner" in reasons[4]
            assert "read-only" in reasons[5]

            await asyncio.sleep(0.5)
            code, text = await asyncio.to_thread(command, cluster, "replace", "3", "4")
            assert code == 0, text
            assert await roles(client) == {1: "voter", 2: "voter", 4: "voter", 5: "learner"}
            code, text = await asyncio.to_thread(command, cluster, "remove", "5")
            assert code == 0, text
            assert [line.split("\t")[:2] for line in text.splitlines()] == [
                ["1", "voter"],
                ["2", "voter"],
                ["4", "voter"],
            ]
        for gone in (3, 5):
            assert await asyncio.to_thread(cluster.nodes[gone].wait) != 0
            assert "not_member" in cluster.nodes[gone].log.read_text()

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_a_leader_removes_itself_through_its_own_connection(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        async with connect(cluster.nodes[leader].address, discover=False) as client:
            await client.put("k", "v")
            await client.remove(leader)
        assert await asyncio.to_thread(cluster.nodes[leader].wait) != 0
        assert "was removed from the cluster" in cluster.nodes[leader].log.read_text()
        others = [node for node in cluster.nodes if node != leader]
        await cluster.wait_leader(among=others)
        async with connect(",".join(cluster.nodes[node].address for node in others)) as client:
            assert await client.get("k") == b"v"
            assert await roles(client) == dict.fromkeys(others, "voter")

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_a_member_removed_while_it_was_down_stops_and_disturbs_nobody(tmp_path: Path) -> None:
    """Faults page, scenario 43."""

    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        gone = cluster.nodes[leader % 3 + 1]
        async with connect(cluster.nodes[leader].address, discover=False) as client:
            gone.kill()
            await client.remove(gone.node_id)
            term = (await client.status()).term
            for _ in range(2):
                gone.start()
                assert await asyncio.to_thread(gone.wait) != 0
            assert "not_member" in gone.log.read_text()
            assert "Traceback" not in gone.log.read_text()
            assert (await client.status()).term == term

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_members_are_in_the_log_and_no_more_in_the_configuration(tmp_path: Path) -> None:
    """After birth, `cluster.initial` may say what it likes; another address is told by `members address`."""

    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        moved = cluster.nodes[leader % 3 + 1]
        async with connect(cluster.nodes[leader].address, discover=False) as client:
            identity = (await client.status()).cluster_id
            await client.put("k", "v")
            await cluster.wait_caught_up(moved.node_id)
            moved.signal(signal.SIGTERM)
            await asyncio.to_thread(moved.wait)
            (port,) = free_ports(1)
            address = f"127.0.0.1:{port}"
            wrong = f"{moved.node_id}={address},8=127.0.0.1:1,9=127.0.0.1:2"
            again = ServerProcess(moved.node_id, tmp_path, address, {"cluster.initial": wrong})
            cluster.nodes[moved.node_id] = again
            again.start()
            code, text = await asyncio.to_thread(
                command, cluster, "address", str(moved.node_id), address, "--timeout", "20"
            )
            assert (code, address in text) == (0, True), text
            await client.put("k", "w")
            await cluster.wait_caught_up(moved.node_id)
            async with connect(address, discover=False) as elsewhere:
                assert await elsewhere.get("k") == b"w"
                assert (await elsewhere.status()).cluster_id == identity
                assert await roles(elsewhere) == {1: "voter", 2: "voter", 3: "voter"}

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_a_wiped_member_comes_back_as_a_new_one(tmp_path: Path) -> None:
    """Faults page, scenario 15: refused as it is, welcome when it was removed and joins anew, under its old number."""

    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        old = leader % 3 + 1
        cluster.nodes[old].kill()
        async with connect(cluster.nodes[leader].address, discover=False) as client:
            for number in range(50):
                await client.put(f"key {number}", "v")
            early = newcomer(cluster, tmp_path / "new", old)
            assert await asyncio.to_thread(early.wait) != 0
            assert "another data directory" in early.log.read_text()
            await client.remove(old)
            early.start()
            await until_roles(client, {1: "voter", 2: "voter", 3: "voter"})
            await cluster.wait_caught_up(old)

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        (tmp_path / "new").mkdir()
        asyncio.run(run(cluster))


def test_one_change_at_a_time(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        others = [node for node in cluster.nodes.values() if node.node_id != leader]
        async with connect(cluster.nodes[leader].address, discover=False, request_timeout=20.0) as client:
            for node in others:
                node.signal(signal.SIGSTOP)
            first = asyncio.create_task(client.add_learner(8, "127.0.0.1:1"))
            await asyncio.sleep(0.1)
            with pytest.raises((ChangePendingError, MembershipError), match="node 8 is added"):
                await client.remove(others[0].node_id, force=True)
            for node in others:
                node.signal(signal.SIGCONT)
            try:
                await first
            except DEngineError as error:
                assert "see its state" in str(error)  # noqa: PT017 - it may have ended either way

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


class Writers:
    """A hundred tasks that write without end, and the time for which nobody's write came back."""

    def __init__(self, client: RemoteClient, count: int = 100) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self.failures: list[BaseException] = []
        self.standstill = 0.0
        self._client = client
        self._stop = False
        self._last = time.monotonic()
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(count)]

    async def _write(self, number: int) -> None:
        turn = 0
        while not self._stop:
            turn += 1
            key, value = f"{number}.{turn % 50}", b"%d" % turn
            try:
                await self._client.put(key, value, timeout=20.0)
            except DEngineError as error:
                self.failures.append(error)
                return
            now = time.monotonic()
            self.standstill, self._last = max(self.standstill, now - self._last), now
            self.acknowledged[key] = value

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


def test_a_rolling_restart_loses_nothing_and_no_write_fails(tmp_path: Path) -> None:
    """Twice round all three, the leader among them, under 100 concurrent writers. How long writes stand still is
    printed; it depends on the machine."""

    async def run(cluster: LocalCluster) -> None:
        await cluster.wait_leader()
        async with connect(cluster.endpoints, request_timeout=20.0) as client:
            writers = Writers(client)
            await asyncio.sleep(0.5)
            for node in [*cluster.nodes.values()] * 2:
                node.signal(signal.SIGTERM)
                assert await asyncio.to_thread(node.wait) == 0
                node.start()
                await cluster.wait_leader()
                await cluster.wait_caught_up(node.node_id)
            await writers.stop()
            assert not writers.failures
            for key, value in writers.acknowledged.items():
                assert await client.get(key) == value
            print(
                f"\n{len(writers.acknowledged)} keys; the longest standstill of all writers: "
                f"{writers.standstill * 1000:.0f} ms"
            )

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))
