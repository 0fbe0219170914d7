"""The subject `redis, one node`: `redis-server` with `appendfsync always`, and its own `redis-benchmark`.

A reference, no peer: one node replicates nothing. Its acknowledged writes are synced, on one disk. The keys of
`redis-benchmark` have 16 bytes.
"""

import csv
import socket
import subprocess
from io import StringIO
from pathlib import Path

from benchmarks.cases import KEY_COUNT, VALUE_BYTES, Sample, Work
from benchmarks.control import BenchmarkError
from benchmarks.servers import Servers, free_ports, missing

_PROBE = 3000
_MOST_CONNECTIONS = 100


class Redis:
    """One server."""

    def __init__(self) -> None:
        self._servers = Servers()
        self._port = 0

    def start(self, directory: Path) -> None:
        (self._port,) = free_ports(1)
        command = [
            *("redis-server", "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always", "--dir", str(directory)),
            *("--auto-aof-rewrite-percentage", "0"),
        ]
        self._servers.start("server", command, directory / "output")
        self._servers.wait_for("answer of redis-server", self._listens)
        self._load(_MOST_CONNECTIONS, KEY_COUNT)

    def run(self, work: Work, tasks: int, seconds: float) -> Sample:
        rate = self._load(tasks, max(_PROBE, 5 * tasks)).rate
        server = self._servers.processes()["server"]
        before = server.call("cpu")
        sample = self._load(tasks, max(_PROBE, int(rate * seconds)))
        spent = (server.call("cpu") - before) * 1e6 / sample.operations
        return Sample(
            sample.operations,
            sample.seconds,
            sample.operations,
            sample.p50_us,
            sample.p99_us,
            sample.max_us,
            {"load": 0.0, "server": spent},
        )

    def _listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")

    def stop(self) -> None:
        self._servers.stop()

    def _load(self, tasks: int, operations: int) -> Sample:
        command = [
            *("redis-benchmark", "-p", str(self._port), "-t", "set", "-c", str(tasks), "-n", str(operations)),
            *("-d", str(VALUE_BYTES), "-r", str(KEY_COUNT), "--csv"),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        rows = list(csv.DictReader(StringIO(ended.stdout)))
        if ended.returncode or not rows or not rows[0].get("rps"):
            raise BenchmarkError(f"redis-benchmark: {ended.stdout[-200:]} {ended.stderr[-200:]}")
        row = rows[0]
        rate = float(row["rps"])
        if not rate:
            raise BenchmarkError("redis-benchmark made no request")
        return Sample(
            operations,
            operations / rate,
            operations,
            float(row["p50_latency_ms"]) * 1000,
            float(row["p99_latency_ms"]) * 1000,
            float(row["max_latency_ms"]) * 1000,
            {},
        )


def why_not() -> str:
    """Why it cannot be measured here; empty if it can."""
    return missing("redis-server", "redis-benchmark")
