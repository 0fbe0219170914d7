"""Nodes that share one state without any consensus, behind real listeners and the real server side.

The state applies a group once per (session, number) above the session's floor, as the engine does. What a node does to
its clients can be changed: `answer` decides when and whether an answer leaves, `fail` is raised instead of serving.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from d_engine.client.api import LeaderInfo, MemberInfo, Status
from d_engine.format.errors import DEngineError, InvalidRequestError, OutcomeUnknownError, SessionLostError
from d_engine.format.frames import Frame
from d_engine.format.group import Group, decode_group
from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.format.state_machine import ApplyContext
from d_engine.kv.machine import KvStateMachine
from d_engine.replica.outcome import GroupDone, GroupOutcome, ReadDone
from d_engine.replica.settings import WatchSettings
from d_engine.replica.watches import Watches
from d_engine.runtime.connection import Connection, Handler
from d_engine.runtime.greeting import Identity
from d_engine.runtime.listener import Listener
from d_engine.server.connection import ClientHandler, DocumentDone

CLUSTER_ID = 99
MAX_GROUPS = 64


@dataclass
class Session:
    floor: int = 0
    results: dict[int, tuple[bytes, GroupOutcome]] = field(default_factory=dict)


class FakeState:
    """One state for all nodes."""

    def __init__(self) -> None:
        self.machine = KvStateMachine()
        self.sessions: dict[int, Session] = {}
        self.applied: list[bytes] = []
        self.groups = 0
        self.copies = 0

    def open_session(self) -> int:
        number = len(self.sessions) + 1
        self.sessions[number] = Session()
        return number

    def apply(self, data: bytes) -> GroupOutcome:
        self.copies += 1
        group, _ = decode_group(data)
        session = self.sessions.get(group.session)
        if session is None:
            return GroupOutcome((), 0, SessionLostError("gone"))
        session.floor = max(session.floor, group.floor)
        session.results = {number: kept for number, kept in session.results.items() if number > session.floor}
        if group.number <= session.floor:
            return GroupOutcome((), 0, OutcomeUnknownError("at or below the floor"))
        if group.number in session.results:
            known, outcome = session.results[group.number]
            assert known == data, "a group was sent again with other bytes"
            return outcome
        assert len(session.results) < MAX_GROUPS, "more groups above the floor than are kept"
        outcome = self._apply(group)
        session.results[group.number] = (data, outcome)
        return outcome

    def _apply(self, group: Group) -> GroupOutcome:
        self.groups += 1
        self.applied.extend(group.commands)
        results = self.machine.apply(group.commands, ApplyContext(self.groups, 1, 0))
        return GroupOutcome(results, self.machine.revision, None)


def at_once(send: Callable[[], None]) -> None:
    send()


class FakeNode:
    """A node that listens. Also a `d_engine.server.connection.ServerBackend`."""

    def __init__(self, state: FakeState, node_id: int) -> None:
        self.state = state
        self.node_id = node_id
        self.leader: LeaderInfo | None = LeaderInfo(1, 1)
        self.members: list[MemberInfo] = []
        self.answer: Callable[[Callable[[], None]], None] = at_once
        self.fail: DEngineError | None = None
        self.silent = False
        self.address = ""
        self.asked: list[str] = []
        self.connections: list[Connection] = []
        self._listener = self._make_listener()
        self.watches = Watches(WatchSettings(), state.machine, lambda: 0, self.wake)

    def wake(self) -> None:
        """What a node does in a turn: it hands over what was applied."""
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        if self.watches.run(0):
            self.wake()

    def _make_listener(self) -> Listener:
        identity = Identity(
            lambda channel: Hello(channel, CLUSTER_ID, self.node_id, 1),
            lambda hello, address: None,
        )
        return Listener(identity, self._refuse_peer, self._serve)

    def _refuse_peer(self, connection: Connection, hello: Hello) -> Refusal | None:
        return Refusal("not_member", "no members here")

    def _serve(self, connection: Connection, hello: Hello) -> Handler:
        assert hello.channel is Channel.CLIENT
        self.connections.append(connection)
        return _Ears(self, ClientHandler(connection, self))

    async def start(self) -> None:
        self._listener = self._make_listener()
        self.address = await self._listener.listen(self.address or "127.0.0.1:0")

    def stop(self) -> None:
        self._listener.close()

    def drop(self) -> None:
        """Cut all connections."""
        for connection in self.connections:
            connection.abort()
        self.connections.clear()

    # --- ServerBackend ---

    def open_session(self, timeout: int, done: GroupDone, /) -> None:
        self._check("open_session")
        outcome = GroupOutcome((), self.state.open_session(), None)
        self.answer(lambda: done(outcome))

    def propose(self, group: bytes, timeout: int, done: GroupDone, /) -> None:
        self._check("propose")
        outcome = self.state.apply(group)
        self.wake()
        self.answer(lambda: done(outcome))

    def read(self, policy: int, min_revision: int, timeout: int, count: int, done: ReadDone, /) -> None:
        self._check("read")
        self.answer(lambda: done(None))

    def query(self, request: bytes, /) -> bytes:
        return self.state.machine.query(request)

    def manage(self, operation: str, arguments: bytes, timeout: int, done: DocumentDone, /) -> None:
        self._check(operation)
        if operation == "members":
            document = msgspec.json.encode(self.members)
        elif operation == "leader":
            document = msgspec.json.encode(self.leader)
        elif operation == "status":
            status = Status(self.node_id, CLUSTER_ID, "0", "leader", 1, 1, 5, 5, 1, 5, 0)
            document = msgspec.json.encode(status)
        elif operation == "transfer":
            document = b"null"
        else:
            raise InvalidRequestError(f"there is no operation {operation!r}")
        self.answer(lambda: done(document, None))

    def _check(self, operation: str) -> None:
        self.asked.append(operation)
        if self.fail is not None:
            raise self.fail


class _Ears:
    """Passes frames on, unless the node is to play dead."""

    def __init__(self, node: FakeNode, handler: ClientHandler) -> None:
        self._node = node
        self._handler = handler

    def on_frames(self, frames: list[Frame]) -> None:
        if not self._node.silent:
            self._handler.on_frames(frames)

    def on_close(self, reason: DEngineError | None) -> None:
        self._handler.on_close(reason)


async def start_nodes(count: int) -> list[FakeNode]:
    """Nodes 1..count; node 1 leads, as far as anybody says."""
    state = FakeState()
    nodes = [FakeNode(state, number + 1) for number in range(count)]
    for node in nodes:
        await node.start()
    members = [MemberInfo(node.node_id, node.address, "voter") for node in nodes]
    for node in nodes:
        node.members = members
    return nodes


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that will happen."""
    while not condition():
        await asyncio.sleep(0)
