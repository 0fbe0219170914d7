"""Loss of power on all nodes at once, for real: real processes, on a file system that forgets what was not synced.

(faults page, scenarios 1, 23 and 30)"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from d_engine.cli.demo.workload import Workload
from d_engine.client.remote import connect
from d_engine.testing.processes import LocalCluster

try:
    from tests.system.lossy_disk import LOSE_POWER
except OSError as error:
    pytest.skip(
        f"no file system of our own here: {error} (Debian: apt-get install fuse3)", allow_module_level=True
    )

_SETTINGS = {"storage.segment_bytes": str(1024 * 1024)}


class LossyMount:
    """The mounted file system and the process that is its disk."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self.path.mkdir()
        self._errors = folder / "disk.log"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.system.lossy_disk", str(self.path), "1"],
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        deadline = time.monotonic() + 10
        while not os.path.ismount(self.path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                pytest.skip(f"FUSE cannot be used here: {self._errors.read_text().strip()[-200:]}")
            time.sleep(0.02)

    def lose_power(self) -> int:
        """Drop what was not synced. Returns how many pages and names were lost."""
        with pytest.raises(FileExistsError):
            (self.path / LOSE_POWER).mkdir()
        assert self._process.stdout is not None
        return int(self._process.stdout.readline().split()[1])

    def close(self) -> None:
        subprocess.run(["fusermount3", "-u", "-z", str(self.path)], check=False, stderr=subprocess.DEVNULL)
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[LossyMount]:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    mounted = LossyMount(tmp_path)
    yield mounted
    mounted.close()


def test_the_disk_forgets_what_was_not_synced_and_only_that(mount: LossyMount) -> None:
    kept, lost = mount.path / "kept", mount.path / "lost"
    for path in (kept, lost):
        path.write_bytes(b"x" * 10_000)
    with kept.open("rb") as file:
        os.fsync(file.fileno())
    folder = os.open(mount.path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    unnamed = mount.path / "unnamed"
    with unnamed.open("wb") as file:
        file.write(b"y")
        file.flush()
        os.fsync(file.fileno())
    assert mount.lose_power() > 0
    assert kept.read_bytes() == b"x" * 10_000
    assert lost.read_bytes() == b""
    assert not unnamed.exists()


@pytest.mark.slow
def test_no_acknowledged_write_is_lost_when_all_nodes_lose_power(mount: LossyMount) -> None:
    items = {b"key %d" % number: b"value %d" % number for number in range(400)}
    workload = Workload(items)

    async def write_until_the_lights_go_out(cluster: LocalCluster) -> None:
        cluster.start()
        await cluster.wait_leader()
        async with connect(cluster.endpoints, request_timeout=2.0) as client:
            before = workload.tally.acknowledged
            stop = asyncio.Event()
            writing = asyncio.create_task(workload.keep_writing(client, stop))
            while workload.tally.acknowledged < before + 3000:
                await asyncio.sleep(0.01)
            cluster.kill_all()
            stop.set()
            await writing

    async def read_back(cluster: LocalCluster) -> None:
        cluster.start()
        await cluster.wait_leader()
        for node in cluster.nodes.values():
            async with connect(node.address, discover=False, request_timeout=20.0) as client:
                assert await workload.verify(client) == (0, 0)

    lost = 0
    with LocalCluster(mount.path, settings=_SETTINGS) as cluster:
        for _ in range(3):
            asyncio.run(write_until_the_lights_go_out(cluster))
            lost += mount.lose_power()
            asyncio.run(read_back(cluster))
            cluster.kill_all()
    assert lost > 0, "nothing was unsynced at any of the kills: this test showed nothing"
