"""A start as an operator sees it: what is said from the first moment on, and that it can be called off at any."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d_engine.testing.processes import LocalCluster, free_ports

pytestmark = pytest.mark.slow

SLOW_START = """
import asyncio

from d_engine.cli import main
from d_engine.engine.standalone import StandaloneEngine

async def start(self):
    print("it begins", flush=True)
    await asyncio.sleep(60)

StandaloneEngine.start = start
main()
"""


def test_a_start_that_takes_long_can_be_called_off(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    options = ["serve", "--data-dir", str(tmp_path), "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_START, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "it begins\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "node 1 stops (SIGTERM)\n")


def test_a_start_says_at_once_what_it_is_at_and_can_be_called_off(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, 1) as cluster:
        (node,) = cluster.nodes.values()
        for turn in range(3):
            before = node.log.read_text() if node.log.exists() else ""
            node.start()
            deadline = time.monotonic() + 60
            while f"node 1 opens {node.data_dir}\n" not in node.log.read_text()[len(before) :]:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(0.03 * turn)
            node.signal(signal.SIGTERM)
            assert node.wait() == 0, node.log.read_text()
            assert "node 1 stops (SIGTERM)" in node.log.read_text()[len(before) :]
        node.start()
        asyncio.run(cluster.wait_leader())
