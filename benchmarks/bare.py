"""The bare limit of the machine: what a durable put through three nodes costs without consensus.

The same work on the same bytes as the engine, and nothing else: no terms, no elections, no sessions, no revisions per
key, no limits, no errors, no retries, no thread of its own. What the engine makes of this figure is the price of its
guarantees; no engine in this language can make more.

One write: a task calls `put`, which encodes the command and returns a future. Once per turn of the loop everything that
gathered becomes one frame with one CRC32C. The frame goes to the log (one vectored write into a zero-filled,
preallocated file and one fdatasync, in a thread, one such write outstanding; what gathers meanwhile goes out with the
next) and over TCP to both peers, which check the CRC, log it in the same way, acknowledge the last frame that is
durable, decode it and set their dict. When the own sync and one peer's acknowledgement are there, the commands are
decoded and set in the own dict, and each task's future gets its result.

The load runs in the same process and on the same loop as the first node's pipeline (`uvloop`); the two peers are
processes of their own. The log is one segment that is overwritten from its start when it is full: no time goes into new
segments.

`python -m benchmarks.bare` prints it, with the rate of bare fdatasync and the loopback round trip beside it.
"""

import asyncio
import os
import struct
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import cast

import uvloop
from crc32c import crc32c

from benchmarks.cases import Case, Sample, Subject, Work, all_cases
from benchmarks.control import BenchmarkError, Process, run_measured, serve
from benchmarks.load import fill, measure_puts
from benchmarks.machine import Machine, default_parent, fill_with_zeros

SEGMENT_BYTES = 64 * 1024 * 1024
_FRAME = struct.Struct(
    "<IIQI"
)  # length of the commands, their count, number of the frame, CRC32C of the commands
_COMMAND = struct.Struct("<BHI")  # kind, length of the key, length of the value
_ACKNOWLEDGEMENT = struct.Struct("<Q")
_PUT = 1
_MAX_PARTS = 1024  # of one vectored write, IOV_MAX


class Log:
    """A preallocated file, a thread that writes and syncs it, and what waits for the thread."""

    def __init__(self, path: Path, durable: Callable[[int], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._durable = durable
        self._file = fill_with_zeros(path, SEGMENT_BYTES)
        self._offset = 0
        self._waiting: list[bytes] = []
        self._last = 0
        self._busy = False
        self._jobs: SimpleQueue[tuple[list[bytes], int]] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def append(self, number: int, frame: bytes) -> None:
        """Log a frame; `durable(number)` is called when it and all before it are synced."""
        self._waiting.append(frame)
        self._last = number
        if not self._busy:
            self._write()

    def _write(self) -> None:
        frames, self._waiting = self._waiting, []
        self._busy = True
        self._jobs.put((frames, self._last))

    def _written(self, last: int) -> None:
        self._busy = False
        if self._waiting:
            self._write()
        self._durable(last)

    def _work(self) -> None:
        while True:
            frames, last = self._jobs.get()
            size = sum(map(len, frames))
            if self._offset + size > SEGMENT_BYTES:
                self._offset = 0
            for start in range(0, len(frames), _MAX_PARTS):
                part = frames[start : start + _MAX_PARTS]
                written = os.pwritev(self._file, part, self._offset)
                if written != sum(map(len, part)):
                    raise BenchmarkError("a partial write to the log")
                self._offset += written
            os.fdatasync(self._file)
            self._loop.call_soon_threadsafe(self._written, last)


def apply(frame: bytes, store: dict[bytes, bytes]) -> None:
    """Decode the commands of a frame and do them."""
    unpack, offset, header = _COMMAND.unpack_from, _FRAME.size, _COMMAND.size
    end = len(frame)
    while offset < end:
        _, key_size, value_size = unpack(frame, offset)
        middle = offset + header + key_size
        offset_of_next = middle + value_size
        store[frame[offset + header : middle]] = frame[middle:offset_of_next]
        offset = offset_of_next


class Peer(asyncio.Protocol):
    """A follower: frames in, acknowledgements out."""

    def __init__(self, path: Path) -> None:
        self._log = Log(path, self._durable)
        self._store: dict[bytes, bytes] = {}
        self._logged: deque[tuple[int, bytes]] = deque()
        self._rest = b""
        self._transport = asyncio.WriteTransport()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        offset, size = 0, len(buffer)
        while size - offset >= _FRAME.size:
            length, _, number, crc = _FRAME.unpack_from(buffer, offset)
            end = offset + _FRAME.size + length
            if end > size:
                break
            frame = buffer[offset:end]
            if crc32c(memoryview(frame)[_FRAME.size :]) != crc:
                raise BenchmarkError(f"the checksum of frame {number} is wrong")
            self._log.append(number, frame)
            self._logged.append((number, frame))
            offset = end
        self._rest = buffer[offset:]

    def _durable(self, last: int) -> None:
        self._transport.write(_ACKNOWLEDGEMENT.pack(last))
        logged = self._logged
        while logged and logged[0][0] <= last:
            apply(logged.popleft()[1], self._store)


class Acknowledgements(asyncio.Protocol):
    """The first node's end of the connection to a peer. Acknowledgements are small enough to come whole."""

    def __init__(self, acknowledged: Callable[[int], None]) -> None:
        self._acknowledged = acknowledged

    def data_received(self, data: bytes) -> None:
        self._acknowledged(_ACKNOWLEDGEMENT.unpack_from(data, len(data) - _ACKNOWLEDGEMENT.size)[0])


class Pipeline:
    """The first node."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = Log(path, self._durable)
        self._store: dict[bytes, bytes] = {}
        self._peers: list[asyncio.WriteTransport] = []
        self._commands: list[bytes] = []
        self._futures: list[asyncio.Future[int]] = []
        self._in_flight: deque[tuple[int, bytes, list[asyncio.Future[int]]]] = deque()
        self._number = 0
        self._own = 0
        self._acknowledged = 0
        self._revision = 0

    async def connect(self, ports: list[int]) -> None:
        """Find the peers."""
        for port in ports:
            transport, _ = await self._loop.create_connection(
                lambda: Acknowledgements(self._peer_has), "127.0.0.1", port
            )
            self._peers.append(transport)

    def put(self, key: bytes, value: bytes) -> "asyncio.Future[int]":
        """The future of this write's revision."""
        future = self._loop.create_future()
        if not self._commands:
            self._loop.call_soon(self._drain)
        self._commands.append(_COMMAND.pack(_PUT, len(key), len(value)) + key + value)
        self._futures.append(future)
        return future

    def _drain(self) -> None:
        body = b"".join(self._commands)
        self._number += 1
        frame = _FRAME.pack(len(body), len(self._commands), self._number, crc32c(body)) + body
        self._in_flight.append((self._number, frame, self._futures))
        self._commands, self._futures = [], []
        self._log.append(self._number, frame)
        for peer in self._peers:
            peer.write(frame)

    def _durable(self, last: int) -> None:
        self._own = last
        self._commit()

    def _peer_has(self, last: int) -> None:
        self._acknowledged = max(self._acknowledged, last)
        self._commit()

    def _commit(self) -> None:
        commit = min(self._own, self._acknowledged)
        in_flight = self._in_flight
        while in_flight and in_flight[0][0] <= commit:
            _, frame, futures = in_flight.popleft()
            apply(frame, self._store)
            revision = self._revision
            for future in futures:
                revision += 1
                future.set_result(revision)
            self._revision = revision


class Bare:
    """The subject `bare`: three processes of this module."""

    def __init__(self) -> None:
        self._processes: dict[str, Process] = {}

    def start(self, directory: Path) -> None:
        for name in ("peer 1", "peer 2", "load"):
            (directory / name).mkdir()
            self._processes[name] = Process("bare", name, str(directory / name))
        ports = [self._processes[name].call("port") for name in ("peer 1", "peer 2")]
        self._processes["load"].call("connect", ports=ports)

    def run(self, work: Work, tasks: int, seconds: float) -> Sample:
        others = {name: process for name, process in self._processes.items() if name != "load"}
        return run_measured(
            self._processes["load"], others, "put", variant=work.variant, tasks=tasks, seconds=seconds
        )

    def stop(self) -> None:
        for process in self._processes.values():
            process.stop()
        self._processes.clear()


async def run_peer(directory: Path) -> None:
    """The process of a peer."""
    server = await asyncio.get_running_loop().create_server(lambda: Peer(directory / "log"), "127.0.0.1", 0)

    async def port() -> int:
        return int(server.sockets[0].getsockname()[1])

    await serve({"port": port})


async def run_first(directory: Path) -> None:
    """The process of the first node and of the load."""
    pipeline = Pipeline(directory / "log")

    async def connect(ports: list[int]) -> None:
        await pipeline.connect(ports)
        await fill(pipeline.put)

    async def put(variant: str, tasks: int, seconds: float) -> Sample:
        return await measure_puts(pipeline.put, variant, tasks, seconds)

    await serve({"connect": connect, "put": put})


def show() -> None:
    """Measure each case once, and print."""
    subjects: dict[str, Subject] = {"machine": Machine(), "bare": Bare()}
    with tempfile.TemporaryDirectory(dir=default_parent(), prefix="d-engine-bare-") as directory:
        for name, subject in subjects.items():
            own = Path(directory) / name
            own.mkdir()
            subject.start(own)
            try:
                for case in all_cases():
                    if case.subject == name:
                        print_sample(case, subject.run(case.work, case.tasks, 3.0))
            finally:
                subject.stop()


def print_sample(case: Case, sample: Sample) -> None:
    """One line."""
    milliseconds = f"p50 {sample.p50_us / 1000:7.3f} ms   p99 {sample.p99_us / 1000:7.3f} ms"
    print(f"{case.work.title:30} {case.tasks:5} tasks {sample.rate:10,.0f}/s   {milliseconds}", flush=True)


def main(arguments: list[str]) -> None:
    """Without arguments: measure. With a role and a directory: be one of the processes."""
    if not arguments:
        show()
        return
    role, directory = arguments
    uvloop.run(run_first(Path(directory)) if role == "load" else run_peer(Path(directory)))


if __name__ == "__main__":
    main(sys.argv[1:])
