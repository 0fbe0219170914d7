"""Servers that are not ours to ask: started, waited for, measured from outside, stopped."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.control import BenchmarkError

_STOP_SECONDS = 10.0


class ProcessOfServer:
    """What can be seen of a process: `cpu` is the processor time it has used, `memory` what it holds now."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def call(self, do: str) -> float:
        """The question `cpu` of the benchmark's own processes, in seconds."""
        if do != "cpu":
            raise BenchmarkError(f"process {self.pid} cannot be asked for {do!r}")
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Resident."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Servers:
    """Processes that are stopped together. Their output goes to a file each, which tells why one has ended."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}

    def start(
        self, name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Run a command in a directory of its own."""
        directory.mkdir(parents=True, exist_ok=True)
        self._logs[name] = directory / "output.txt"
        with self._logs[name].open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )

    def processes(self) -> dict[str, ProcessOfServer]:
        """By name."""
        return {name: ProcessOfServer(process.pid) for name, process in self._running.items()}

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Until it holds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, process in self._running.items():
                if process.poll() is not None:
                    words = self._logs[name].read_text(errors="replace")[-500:]
                    raise BenchmarkError(f"{name} has ended with status {process.returncode}: {words}")
            try:
                if condition():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise BenchmarkError(f"no {what} within {seconds:g} s")

    def stop(self) -> None:
        """End them, one way or the other."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def missing(*programs: str) -> str:
    """Which of the programs are not installed; empty if all are."""
    absent = [program for program in programs if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""
