"""Listening: on TCP or a Unix socket, for members and clients alike. Who it is turns out in the hello.

Until there is encryption, a TCP address must be a loopback one unless `insecure_listen` says otherwise. A Unix socket
is the owner's only (mode 0600). A path left behind by a process that is gone is taken over; one that somebody listens
on is not.
"""

import asyncio
import errno
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress

from d_engine.format.errors import (
    AddressInUseError,
    DEngineError,
    ListenError,
    OverloadedError,
    ProtocolError,
)
from d_engine.format.frames import Frame
from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.format.limits import MAX_MEMBERS
from d_engine.runtime.address import TcpAddress, UnixAddress, parse_address
from d_engine.runtime.connection import Connection, Handler
from d_engine.runtime.fork import hold, release
from d_engine.runtime.greeting import Identity, greet, read_greeting, refuse

CLIENT_SEND_LIMIT_BYTES = 16 * 1024 * 1024
MAX_CONNECTIONS = 1024
_PEER_RESERVE = 2 * MAX_MEMBERS
_BACKLOG = 512
_log = logging.getLogger(__name__)

AcceptPeer = Callable[[Connection, Hello], Refusal | None]
"""Takes over a member's connection after an admitted hello, or says why not. It must answer the hello."""

AcceptClient = Callable[[Connection, Hello], Handler]
"""Returns who handles a client's connection. The hello has been answered."""


class Listener:
    """Any number of addresses, one limit of connections over all of them. A part of the limit is kept for members."""

    def __init__(
        self,
        identity: Identity,
        accept_peer: AcceptPeer,
        on_client: AcceptClient,
        *,
        insecure_listen: bool = False,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.identity = identity
        self.accept_peer = accept_peer
        self.on_client = on_client
        self._insecure = insecure_listen
        self._limit = max_connections
        self._servers: list[asyncio.Server] = []
        self._paths: list[str] = []
        self._connections: set[Connection] = set()

    async def listen(self, address: str) -> str:
        """Listen there too. Returns the address with the port that was bound. Raises `AddressInUseError`,
        `ListenError`, `ConfigError`."""
        loop = asyncio.get_running_loop()
        target = parse_address(address)
        if isinstance(target, UnixAddress):
            sock = _bind_unix(target)
            self._paths.append(target.path)
            server = await loop.create_unix_server(lambda: self._accept(loop), sock=sock, backlog=_BACKLOG)
        else:
            sock = await self._bind_tcp(target)
            port: int = sock.getsockname()[1]
            target = TcpAddress(target.host, port)
            server = await loop.create_server(lambda: self._accept(loop), sock=sock, backlog=_BACKLOG)
        hold(sock.fileno())
        self._servers.append(server)
        return str(target)

    def close(self) -> None:
        """Stop listening and drop every connection that came in."""
        for server in self._servers:
            for sock in server.sockets:
                release(sock.fileno())
            server.close()
        self._servers.clear()
        for path in self._paths:
            with suppress(FileNotFoundError):
                os.unlink(path)
        self._paths.clear()
        for connection in list(self._connections):
            connection.abort()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def crowded(self) -> bool:
        """True when only members are let in."""
        return len(self._connections) > self._limit - min(_PEER_RESERVE, self._limit // 2)

    def _accept(self, loop: asyncio.AbstractEventLoop) -> Connection:
        connection = _Reception(loop, self).connection
        connection.ended = self._connections.discard
        self._connections.add(connection)
        if len(self._connections) > self._limit:
            connection.abort()
        return connection

    async def _bind_tcp(self, target: TcpAddress) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                target.host, target.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, UnicodeError) as error:
            raise ListenError(f"the listen address {target} does not resolve: {error}") from None
        # One name, one socket: the first IPv4 address where there is one, because that is what people mean.
        family, _, _, _, place = min(found, key=lambda item: item[0] != socket.AF_INET)
        if not self._insecure and not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback:
            raise ListenError(
                f"the listen address {target} is not a loopback address, and connections are not encrypted; "
                "if the network is trusted, allow it with insecure_listen"
            )
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(place)
            # With SO_REUSEADDR only `listen` tells of a second listener on the port.
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            raise _listen_error(target, error) from None
        sock.setblocking(False)
        return sock


class _Reception:
    """One accepted connection, until its hello tells whose it is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self.connection = Connection(loop, self)
        self._listener = listener

    def on_frames(self, frames: list[Frame]) -> None:
        greeting = read_greeting(frames[0])
        connection, listener = self.connection, self._listener
        if isinstance(greeting, Refusal):
            connection.abort()
            return
        refusal = listener.identity.admit(greeting, connection.remote)
        if refusal is None and greeting.channel is not Channel.CLIENT:
            refusal = listener.accept_peer(connection, greeting)
        elif refusal is None and listener.crowded:
            refusal = Refusal(OverloadedError.code, "too many connections; try another node, or later")
        elif refusal is None:
            greet(connection, listener.identity.hello(Channel.CLIENT))
            connection.establish(listener.on_client(connection, greeting), CLIENT_SEND_LIMIT_BYTES)
        if refusal is not None:
            refuse(connection, refusal)

    def on_close(self, reason: DEngineError | None) -> None:
        if isinstance(reason, ProtocolError):
            _log.info("a connection was closed before its hello: %s", reason)


def _bind_unix(target: UnixAddress) -> socket.socket:
    """A stale socket file is replaced. The mode is set before anybody can connect."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(target.path):
            os.unlink(target.path)
        sock.bind(target.path)
        os.chmod(target.path, 0o600)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _listen_error(target, error) from None
    sock.setblocking(False)
    return sock


def _is_stale(path: str) -> bool:
    """Whether there is a socket on which nobody listens."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            return False  # somebody listens, and is busy
    return False


def _listen_error(target: TcpAddress | UnixAddress, error: OSError) -> DEngineError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUseError(f"the listen address {target} is taken: another process listens there")
    return ListenError(f"the listen address {target} cannot be used: {error.strerror or error}")
