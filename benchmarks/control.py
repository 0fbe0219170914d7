"""How the benchmark drives its processes: one JSON object a line, request and answer, over their standard streams.

A process ends when its standard input does, so that nothing is left behind if the benchmark itself is killed.
"""

import asyncio
import json
import select
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.cases import Sample

Handler = Callable[..., Awaitable[object]]

ROOT = Path(__file__).parent.parent
_ANSWER_TIMEOUT_SECONDS = 120.0


class BenchmarkError(Exception):
    """A process of the benchmark did not do what it was asked to."""


async def serve(handlers: Mapping[str, Handler]) -> None:
    """In a process of the benchmark: answer requests until the standard input ends. `cpu` is always known."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        request = json.loads(line)
        if request["do"] == "cpu":
            answer: object = time.process_time()
        else:
            answer = await handlers[request["do"]](**request["with"])
        sys.stdout.write(json.dumps(asdict(answer) if isinstance(answer, Sample) else answer) + "\n")
        sys.stdout.flush()


class Process:
    """A module of this package, running as a process that is inside `serve`."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.title = " ".join((module, *arguments))
        self._popen = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        """For a profiler."""
        return self._popen.pid

    def call(self, do: str, **arguments: object) -> Any:
        """Ask, wait for the answer."""
        self.tell(do, **arguments)
        return self.answer()

    def tell(self, do: str, **arguments: object) -> None:
        """Ask; the answer is to be fetched by `answer`."""
        stdin = self._popen.stdin
        if stdin is None or self._popen.poll() is not None:
            raise BenchmarkError(f"{self.title} has ended with status {self._popen.returncode}")
        stdin.write(json.dumps({"do": do, "with": arguments}).encode() + b"\n")
        stdin.flush()

    def answer(self) -> Any:
        """Wait for the answer to the last request."""
        stdout = self._popen.stdout
        if stdout is None or not select.select([stdout], [], [], _ANSWER_TIMEOUT_SECONDS)[0]:
            raise BenchmarkError(f"{self.title} gave no answer within {_ANSWER_TIMEOUT_SECONDS:.0f} s")
        line = stdout.readline()
        if not line:
            raise BenchmarkError(f"{self.title} has ended with status {self._popen.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """Tell it to end."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def stop(self) -> None:
        """Tell it to end, and wait; kill it if it does not go."""
        self.close()
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


class HasProcessorTime(Protocol):
    """A process that tells, when asked for `cpu`, how many seconds it has used."""

    def call(self, do: str) -> Any: ...


def run_measured(
    loaded: Process, others: Mapping[str, HasProcessorTime], do: str, **arguments: object
) -> Sample:
    """Let `loaded` do its work, and add the CPU time that the other processes spent on each operation meanwhile."""
    before = {name: process.call("cpu") for name, process in others.items()}
    sample = Sample(**loaded.call(do, **arguments))
    spent = {name: process.call("cpu") - before[name] for name, process in others.items()}
    cpu_us = {name: seconds * 1e6 / sample.performed for name, seconds in spent.items()}
    return replace(sample, cpu_us=sample.cpu_us | cpu_us)
