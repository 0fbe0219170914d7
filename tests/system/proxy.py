"""A TCP proxy that misbehaves on demand: between members, or between a client and a member.

It runs on a thread and a loop of its own, so that tests of any kind can use it. Faults belong to the proxy, not to a
connection: they hold for every connection that passes, and for new ones.

    with FaultProxy("127.0.0.1:7001") as proxy:   # give proxy.address to whoever is to reach 127.0.0.1:7001
        proxy.delay(0.05)
        proxy.cut()
        proxy.heal()
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, TypeVar

_CHUNK_BYTES = 64 * 1024
_T = TypeVar("_T")


class Direction(Enum):
    """Seen from the one who dialled."""

    THERE = "there"
    BACK = "back"


BOTH = (Direction.THERE, Direction.BACK)


@dataclass(frozen=True)
class Weather:
    """What happens to bytes in one direction. `swallow` takes them and delivers nothing; `stop` does not even take
    them, so that the sender's buffers fill; `bytes_per_second` lets a few through at a time (0: all at once)."""

    delay_seconds: float = 0.0
    bytes_per_second: float = 0.0
    swallow: bool = False
    stop: bool = False


CALM = Weather()


class FaultProxy:
    """Listens on a loopback port and passes on to `target` ("host:port"). All methods may be called from any thread;
    when they return, the fault is in force."""

    def __init__(self, target: str) -> None:
        self.address = ""
        """Where it listens, once started."""
        self._relay = _Relay(target)
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def start(self) -> "FaultProxy":
        self._thread.start()
        self.address = self._do(self._relay.listen())
        return self

    def stop(self) -> None:
        """Close everything. Harmless when repeated."""
        if not self._loop.is_closed():
            self._do(self._relay.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> "FaultProxy":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def connections(self) -> int:
        """How many pass through."""
        return len(self._relay.pairs)

    @property
    def passed(self) -> dict[Direction, int]:
        """Bytes delivered in each direction so far."""
        return dict(self._relay.passed)

    def delay(self, seconds: float, directions: tuple[Direction, ...] = BOTH) -> None:
        """Every byte arrives so much later; nothing is reordered."""
        self._run(self._relay.set_weather, Weather(delay_seconds=seconds), directions)

    def drip(self, bytes_per_second: float, directions: tuple[Direction, ...] = BOTH) -> None:
        """A line so slow that a frame takes for ever."""
        self._run(self._relay.set_weather, Weather(bytes_per_second=bytes_per_second), directions)

    def half_open(self, directions: tuple[Direction, ...] = BOTH) -> None:
        """Connections stay, new ones are accepted, bytes vanish. Each connection that this happened to is broken by
        `heal`, because a stream with a hole must not go on."""
        self._run(self._relay.set_weather, Weather(swallow=True), directions)

    def stall(self, directions: tuple[Direction, ...] = BOTH) -> None:
        """Bytes are not even taken: the sender's buffers fill. After `heal` everything goes on where it was."""
        self._run(self._relay.set_weather, Weather(stop=True), directions)

    def cut(self) -> None:
        """Close every connection and accept none."""
        self._run(self._relay.cut)

    def reset(self) -> None:
        """Break every connection with an RST, wherever its frames are. New ones are accepted."""
        self._run(self._relay.break_all, True)

    def heal(self) -> None:
        """Good weather again."""
        self._run(self._relay.heal)

    def _run(self, function: Callable[..., None], *arguments: object) -> None:
        async def call() -> None:
            function(*arguments)

        self._do(call())

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


class _Relay:
    """The proxy's part on its own thread."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self.passed = dict.fromkeys(Direction, 0)
        self.weather = dict.fromkeys(Direction, CALM)
        self.changed = asyncio.Event()
        """Set, and replaced, when the weather changes."""
        self.pairs: set[_Pair] = set()
        self._refuse = False
        self._server: asyncio.Server | None = None

    async def listen(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK_BYTES)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def set_weather(self, weather: Weather, directions: tuple[Direction, ...] = BOTH) -> None:
        self.weather.update(dict.fromkeys(directions, weather))
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def cut(self) -> None:
        self._refuse = True
        self.break_all(False)

    def break_all(self, reset: bool) -> None:
        for pair in list(self.pairs):
            pair.end(reset=reset)

    def heal(self) -> None:
        self._refuse = False
        self.set_weather(CALM)
        for pair in list(self.pairs):
            if pair.holed:
                pair.end(reset=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._refuse:
                raise ConnectionRefusedError
            there = await asyncio.open_connection(self._host, self._port, limit=_CHUNK_BYTES)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(self, reader, writer, *there)
        self.pairs.add(pair)
        if self._refuse:
            pair.end(reset=False)


class _Pair:
    """One connection and its other half."""

    def __init__(
        self,
        relay: _Relay,
        near_reader: asyncio.StreamReader,
        near_writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        self.holed = False
        """Bytes of this stream were swallowed."""
        self._relay = relay
        self._writers = (near_writer, far_writer)
        self._pumps = (
            asyncio.ensure_future(self._pump(Direction.THERE, near_reader, far_writer)),
            asyncio.ensure_future(self._pump(Direction.BACK, far_reader, near_writer)),
        )

    def end(self, *, reset: bool) -> None:
        """Close both halves."""
        self._relay.pairs.discard(self)
        for writer in self._writers:
            if reset and not writer.transport.is_closing():
                linger = struct.pack("ii", 1, 0)
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    async def _pump(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        deliver = asyncio.ensure_future(self._deliver(direction, queue, writer))
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wait_while_stopped(direction)
                data = await reader.read(_CHUNK_BYTES)
                await self._wait_while_stopped(direction)
                await queue.put((loop.time(), data))
                if not data:
                    await deliver
                    break
        except OSError:
            self.end(reset=False)
        finally:
            deliver.cancel()

    async def _wait_while_stopped(self, direction: Direction) -> None:
        while self._relay.weather[direction].stop:
            await self._relay.changed.wait()

    async def _deliver(
        self, direction: Direction, queue: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                came, data = await queue.get()
                while (left := came + self._relay.weather[direction].delay_seconds - loop.time()) > 0:
                    await self._sleep(left)
                if not data:
                    break
                await self._write(direction, data, writer)
        self.end(reset=False)

    async def _write(self, direction: Direction, data: bytes, writer: asyncio.StreamWriter) -> None:
        while data:
            weather = self._relay.weather[direction]
            if weather.swallow:
                self.holed = True
                return
            piece = data
            if weather.bytes_per_second:
                piece = data[: max(1, int(weather.bytes_per_second / 10))]
                await self._sleep(len(piece) / weather.bytes_per_second)
            writer.write(piece)
            await writer.drain()
            self._relay.passed[direction] += len(piece)
            data = data[len(piece) :]

    async def _sleep(self, seconds: float) -> None:
        """Or until the weather changes."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._relay.changed.wait(), seconds)
