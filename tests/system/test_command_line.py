"""The command line against a real server, as a script sees it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from d_engine.testing.processes import ServerProcess, free_ports

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (port,) = free_ports(1)
    process = ServerProcess(1, tmp_path, f"127.0.0.1:{port}", {})
    process.start()
    yield process
    process.kill()


def run(server: ServerProcess, *arguments: str, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    command = [
        sys.executable,
        "-m",
        "d_engine.cli",
        *arguments,
        "--endpoints",
        server.address,
        "--timeout",
        "20",
    ]
    return subprocess.run(command, input=input, capture_output=True, check=False, timeout=60)


def test_a_session_at_the_shell(server: ServerProcess) -> None:
    assert run(server, "put", "greeting", "hello").stdout == b"revision 1\n"
    assert run(server, "get", "greeting").stdout == b"hello"
    assert run(server, "put", "from/stdin", "-", input=b"\x00\xff").returncode == 0
    assert run(server, "get", "from/stdin").stdout == b"\x00\xff"
    entry = json.loads(run(server, "get", "from/stdin", "-o", "json").stdout)
    assert entry["value"] == {"base64": "AP8="}
    absent = run(server, "get", "absent")
    assert (absent.returncode, absent.stdout) == (1, b"")
    assert run(server, "cas", "lock", "me", "--absent").returncode == 0
    assert run(server, "cas", "lock", "you", "--absent").returncode == 1
    assert run(server, "cas", "lock", "you", "--expected", "me").returncode == 0
    scan = run(server, "scan", "g")
    assert scan.stdout == b"greeting\thello\n"
    assert b"deleted" in run(server, "delete", "greeting").stdout
    status = json.loads(run(server, "status", "-o", "json").stdout)
    assert (status["role"], status["leader_ready"], status["node_id"]) == ("leader", True, 1)
    assert run(server, "members").stdout == f"1\tvoter\t{server.address}\n".encode()
    assert b"node 1" in run(server, "leader").stdout
    refused = run(server, "put", "k" * 2000, "v")
    assert refused.returncode == 5
    assert b"invalid_request" in refused.stderr
    pinned = json.loads(run(server, "range", "--prefix", "from", "--pinned", "-o", "json").stdout)
    assert [item["key"]["text"] for item in pinned["items"]] == ["from/stdin"]
    lease = run(server, "lease", "grant", "60").stdout.decode().strip()
    assert run(server, "put", "on/lease", "x", "--lease", lease).returncode == 0
    assert run(server, "put", "with/ttl", "x", "--ttl", "0.2").returncode == 0
    assert run(server, "lease", "keep-alive", lease).returncode == 0
    assert run(server, "lease", "keep-alive", lease, "999").returncode == 1
    assert run(server, "lease", "list", lease).stdout.endswith(b"\ton/lease\n")
    assert run(server, "lease", "list").stdout.startswith(lease.encode() + b"\t60\t")
    assert b"1 keys deleted" in run(server, "lease", "revoke", lease).stdout
    assert run(server, "lease", "revoke", lease).returncode == 5
    assert run(server, "get", "on/lease").returncode == run(server, "get", "with/ttl").returncode == 1
    bench = json.loads(run(server, "bench", "--tasks", "10", "--seconds", "0.5", "-o", "json").stdout)
    assert bench["operations"] > 0


def test_the_demonstration_loses_nothing() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "d_engine.cli", "demo"], capture_output=True, check=False, timeout=150
    )
    text = result.stdout.decode()
    assert result.returncode == 0, text + result.stderr.decode()
    assert "lost" in text
    assert "\x1b[" not in text
