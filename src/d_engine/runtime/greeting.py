"""The greeting: who speaks, said first in both directions, before anything else is looked at.

The side that dialled says hello; the other side checks it and answers with its own hello or with a refusal; then the
dialler checks in turn. Whoever refuses says why and closes. Until then a connection takes frames of at most 4 KiB, one
at a time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from d_engine.format.errors import DEngineError, IdentityError, MalformedError, UnavailableError
from d_engine.format.frames import Frame, FrameKind, encode_frame
from d_engine.format.hello import Channel, Greeting, Hello, Refusal, decode_greeting, encode_greeting
from d_engine.runtime.address import UnixAddress, parse_address
from d_engine.runtime.connection import Connection

CONNECT_SECONDS = 1.0
"""A lost SYN is sent again after a second; dialling anew is no slower and notices that an address has changed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """How this side presents itself, and whom it accepts. `admit` gets a hello and the address it came from."""

    hello: Callable[[Channel], Hello]
    admit: Callable[[Hello, str], Refusal | None]


Established: TypeAlias = Callable[[Connection, Hello], None]
"""Called at once when the greeting is over; it must call `Connection.establish`, because frames may follow."""


def greet(connection: Connection, greeting: Greeting) -> None:
    """Send a hello or a refusal."""
    connection.send(encode_frame(FrameKind.HELLO, encode_greeting(greeting)))


def refuse(connection: Connection, refusal: Refusal) -> None:
    """Say why, and close."""
    greet(connection, refusal)
    connection.close(IdentityError(f"{connection.remote} was refused: {refusal.text}"))


def read_greeting(frame: Frame) -> Greeting:
    """What the other side says first. Raises `MalformedError`."""
    if frame.kind is not FrameKind.HELLO or len(frame.tail):
        raise MalformedError(f"a connection begins with a {frame.kind.name.lower()} frame instead of a hello")
    return decode_greeting(frame.head)


class _Caller:
    """The dialling side while it waits for the answer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        admit: Callable[[Hello], Refusal | None],
        established: Established,
    ) -> None:
        self.connection = Connection(loop, self)
        self.answer: asyncio.Future[Hello | Refusal] = loop.create_future()
        self._admit = admit
        self._established = established

    def on_frames(self, frames: list[Frame]) -> None:
        connection = self.connection
        greeting = read_greeting(frames[0])
        if isinstance(greeting, Refusal):
            connection.abort()
        elif refusal := self._admit(greeting):
            refuse(connection, refusal)
            self._fail(IdentityError(f"what answers at {connection.remote} was refused: {refusal.text}"))
            return
        else:
            self._established(connection, greeting)
        if not self.answer.done():
            self.answer.set_result(greeting)

    def on_close(self, reason: DEngineError | None) -> None:
        self._fail(
            reason or UnavailableError(f"{self.connection.remote} closed the connection without a word")
        )

    def _fail(self, reason: DEngineError) -> None:
        if not self.answer.done():
            self.answer.set_exception(reason)


async def dial(
    address: str, hello: Hello, admit: Callable[[Hello], Refusal | None], established: Established
) -> Connection | Refusal:
    """Connect and greet. Returns the established connection, or the other side's refusal. Raises
    `UnavailableError` (nobody answers), `ProtocolError` (not one of us), `IdentityError` (`admit` refused)."""
    loop = asyncio.get_running_loop()
    target = parse_address(address)
    caller = _Caller(loop, admit, established)
    connection = caller.connection
    connection.remote = address
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if isinstance(target, UnixAddress):
                await loop.create_unix_connection(lambda: connection, target.path)
            else:
                await loop.create_connection(lambda: connection, target.host, target.port)
        greet(connection, hello)
        # The connection's own limit for the greeting ends this wait.
        greeting = await caller.answer
    except BaseException as error:
        caller.answer.cancel()
        connection.abort()
        if isinstance(error, TimeoutError):
            raise UnavailableError(f"{address} did not answer within {CONNECT_SECONDS:g} s") from None
        if isinstance(error, OSError | UnicodeError) and not isinstance(error, DEngineError):
            raise UnavailableError(f"{address} cannot be reached: {error}") from None
        raise
    return greeting if isinstance(greeting, Refusal) else connection
