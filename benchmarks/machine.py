"""The machine: its name, its disk's bare fdatasync, its loopback's round trip."""

import contextlib
import os
import platform
import socket
import subprocess
import sys
from array import array
from pathlib import Path
from time import perf_counter, perf_counter_ns

from benchmarks.cases import Sample, Work
from benchmarks.load import summary

_FILE_BYTES = 64 * 1024 * 1024
_WRITE_BYTES = {"4 KiB": 4096, "27 KB": 27_000}
_MESSAGE = b"." * 64
_FILL_CHUNK = bytes(1024 * 1024)
_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "overlay")
_ECHO = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while message := connection.recv(4096):
        connection.sendall(message)
"""


def fill_with_zeros(path: Path, size: int) -> int:
    """A file of zeros, written for real and synced. Returns its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    for offset in range(0, size, len(_FILL_CHUNK)):
        os.pwrite(descriptor, _FILL_CHUNK, offset)
    os.fsync(descriptor)
    return descriptor


class Machine:
    """The subject `machine`: one caller, no event loop."""

    def __init__(self) -> None:
        self._directory = Path()

    def start(self, directory: Path) -> None:
        self._directory = directory

    def run(self, work: Work, tasks: int, seconds: float) -> Sample:
        if work.operation == "fdatasync":
            return _measure_sync(self._directory / "file", _WRITE_BYTES[work.variant], seconds)
        return _measure_round_trip(seconds)

    def stop(self) -> None:
        """Nothing runs."""


def _measure_sync(path: Path, size: int, seconds: float) -> Sample:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    latencies = array("Q")
    descriptor = fill_with_zeros(path, _FILE_BYTES)
    try:
        offset = 0
        start = perf_counter()
        while perf_counter() - start < seconds:
            before = perf_counter_ns()
            os.pwrite(descriptor, data, offset)
            os.fdatasync(descriptor)
            latencies.append(perf_counter_ns() - before)
            offset = offset + size if offset + 2 * size <= _FILE_BYTES else 0
        return summary(latencies, len(latencies), perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()


def _measure_round_trip(seconds: float) -> Sample:
    latencies = array("Q")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        echo = subprocess.Popen([sys.executable, "-c", _ECHO, str(listener.getsockname()[1])])
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            start = perf_counter()
            while perf_counter() - start < seconds:
                before = perf_counter_ns()
                connection.sendall(_MESSAGE)
                connection.recv(4096)
                latencies.append(perf_counter_ns() - before)
            elapsed = perf_counter() - start
        echo.wait()
    return summary(latencies, len(latencies), elapsed)


# --- who uses it ---


class Usage:
    """From its making to `disturbance`: the share of all processors' time that processes outside of our process group
    have used, or the host has taken."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def disturbance(self) -> float:
        """0 on a machine that is ours alone."""
        available = (perf_counter() - self._start) * (os.cpu_count() or 1)
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        return min(1.0, max(0.0, others / available))


def _busy_seconds() -> float:
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    group = os.getpgrp()
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


# --- its name --------------------------------------------------------------------------------------------------------


def default_parent() -> Path:
    """Where temporary data goes unless told otherwise: `/var/tmp` is on a disk where `/tmp` may be in memory."""
    return Path("/var/tmp")


def filesystem(path: Path) -> str:
    """The type of the file system that holds `path`."""
    best, kind = Path("/"), "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, mounted_kind, *_ = line.split(" ")
        point = Path(mount.replace("\\040", " "))
        if path.resolve().is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, mounted_kind
    return kind


def is_in_memory(kind: str) -> bool:
    """Whether a sync on such a file system says nothing about a disk."""
    return kind in _IN_MEMORY


def describe(directory: Path) -> dict[str, str]:
    """What a figure means nothing without."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    commit = "unknown"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": f"{model}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "filesystem": filesystem(directory),
        "commit": commit,
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }
