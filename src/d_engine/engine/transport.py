"""From a caller's loop to the engine's thread: what the embedded client's writer and reader send through.

One `Transport` for each loop that uses the engine. A group or a batch of queries crosses as one item, all items of a
turn in one hand-over, and all answers of a turn of the engine come back in one.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from d_engine.client.reader import AnswersDone
from d_engine.client.writer import OutcomeDone
from d_engine.engine.backend import QUESTIONS, NodeBackend
from d_engine.format.errors import DEngineError
from d_engine.replica.outcome import GroupOutcome
from d_engine.runtime.handover import Desk, Ticket
from d_engine.runtime.thread import EngineThread

CONFIRMATION = b"no query: only that one may be made"
"""A query, this very object, that is its own answer: when it comes, the state may be read under the policy, by whoever
asked. (No query of a state machine is the same object.)"""

Run = Callable[[Callable[[], None]], None]
_NANOSECONDS = 1_000_000_000
_T = TypeVar("_T")
_A = TypeVar("_A")


@dataclass(frozen=True, slots=True)
class _Group:
    """`data` is None to open a session."""

    data: bytes | None
    timeout: float


@dataclass(frozen=True, slots=True)
class _Queries:
    policy: int
    min_revision: int
    queries: Sequence[bytes]
    timeout: float


@dataclass(frozen=True, slots=True)
class _Manage:
    operation: str
    arguments: bytes
    timeout: float


class Transport:
    """Make, use and close on the caller's loop."""

    def __init__(self, thread: EngineThread, backend: NodeBackend, run: Run) -> None:
        """`run` is that of the engine's host, see `LoopHost.run`."""
        self._backend = backend
        self._groups: Desk[_Group, GroupOutcome] = Desk(thread, _each(self._propose, run), at_once=True)
        self._queries: Desk[_Queries, Sequence[bytes]] = Desk(thread, _each(self._read, run), at_once=True)
        self._manages: Desk[_Manage, bytes] = Desk(thread, _each(self._manage, run))

    # --- on the caller's thread ---

    def open_session(self, timeout: float, done: OutcomeDone) -> None:
        """See `GroupTransport`."""
        self._submit(_Group(None, timeout), done)

    def submit(self, group: bytes, timeout: float, done: OutcomeDone) -> None:
        """See `GroupTransport`."""
        self._submit(_Group(group, timeout), done)

    def _submit(self, request: _Group, done: OutcomeDone) -> None:
        def ended(ticket: Ticket[_Group, GroupOutcome]) -> None:
            error = ticket.error
            done(ticket.result if error is None else GroupOutcome((), 0, error))

        try:
            self._groups.send(request, ended)
        except DEngineError as error:
            asyncio.get_running_loop().call_soon(done, GroupOutcome((), 0, error))

    def read(
        self, policy: int, min_revision: int, queries: Sequence[bytes], timeout: float, done: AnswersDone
    ) -> None:
        """See `ReadTransport`."""

        def ended(ticket: Ticket[_Queries, Sequence[bytes]]) -> None:
            error = ticket.error
            done(ticket.result if error is None else (), error)

        try:
            self._queries.send(_Queries(policy, min_revision, queries, timeout), ended)
        except DEngineError as error:
            asyncio.get_running_loop().call_soon(done, (), error)

    def manage(self, operation: str, arguments: bytes, timeout: float) -> "asyncio.Future[bytes]":
        """The document that a rare operation answers with."""
        return self._manages.submit(_Manage(operation, arguments, timeout))

    def close(self) -> None:
        """Nobody will use it any more. Whoever still waits is told."""
        for desk in (self._groups, self._queries, self._manages):
            desk.close()

    def abandon(self) -> None:
        """The caller's loop is closed. On any thread."""
        for desk in (self._groups, self._queries, self._manages):
            desk.abandon()

    # --- on the engine's thread ---

    def _propose(self, ticket: Ticket[_Group, GroupOutcome]) -> None:
        request = ticket.request
        timeout = int(request.timeout * _NANOSECONDS)
        ticket.in_doubt = request.data is not None
        if request.data is None:
            self._backend.open_session(timeout, ticket.answer)
        else:
            self._backend.propose(request.data, timeout, ticket.answer)

    def _read(self, ticket: Ticket[_Queries, Sequence[bytes]]) -> None:
        request = ticket.request

        def ready(error: DEngineError | None) -> None:
            if error is not None:
                ticket.fail(error)
            else:
                query = self._backend.query
                ticket.answer(
                    [each if each is CONFIRMATION else query(each) for each in request.queries],
                )

        timeout = int(request.timeout * _NANOSECONDS)
        self._backend.read(request.policy, request.min_revision, timeout, len(request.queries), ready)

    def _manage(self, ticket: Ticket[_Manage, bytes]) -> None:
        def ready(document: bytes, error: DEngineError | None) -> None:
            if error is not None:
                ticket.fail(error)
            else:
                ticket.answer(document)

        request = ticket.request
        timeout = int(request.timeout * _NANOSECONDS)
        ticket.in_doubt = request.operation not in QUESTIONS
        self._backend.manage(request.operation, request.arguments, timeout, ready)


def _each(handle: Callable[[Ticket[_T, _A]], None], run: Run) -> Callable[[list[Ticket[_T, _A]]], None]:
    """Hand a turn's tickets over one by one; what a handler raises is the ticket's answer."""

    def handle_all(tickets: list[Ticket[_T, _A]]) -> None:
        for ticket in tickets:
            try:
                handle(ticket)
            except DEngineError as error:
                ticket.fail(error)

    return lambda tickets: run(partial(handle_all, tickets))
