"""I11: no lease ends early, by true time.

Known here and nowhere else is the true time at which a leader made an entry. A lease that was granted or kept alive by
one entry and is ended by another one must have had its TTL between the two, shortened by no more than the fastest clock
of the world runs fast. (That all nodes end it at the same place, with the same result, the `Ledger` sees.)

What the cluster does by itself is added to the clients' history, for the checkers: keys that go with a lease make a
revision that no client asked for.
"""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from d_engine.format.entry import Entry
from d_engine.format.errors import NotAppliedError
from d_engine.format.ids import LogIndex, Nanoseconds, Term
from d_engine.format.state_machine import ApplyContext, StateMachine
from d_engine.kv.lease_commands import LeaseCommandKind, decode_lease_command
from d_engine.kv.leases import Lease
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.results import decode_lease_ended
from d_engine.testing.checkers.actions import Action, Delete, Transaction, TransactionResult
from d_engine.testing.checkers.history import History
from d_engine.testing.sim.violations import InvariantBroken

_MILLION = 1_000_000
_ROUNDING: Nanoseconds = 1000
_REVISION = struct.Struct("<xQ")
_ENDINGS = (LeaseCommandKind.REVOKE, LeaseCommandKind.EXPIRE)

Known: TypeAlias = dict[int, tuple[Lease, list[bytes]]]
"""Leases with their keys, before something is applied."""


class _Made(NamedTuple):
    """When an entry was made: between these two moments."""

    earliest: Nanoseconds
    latest: Nanoseconds


class Tenure:
    """All leases of a run. `fastest`: how much faster than true time any clock may run, in parts per million."""

    def __init__(self, fastest: int, count: Callable[[str], None]) -> None:
        self.history: History[Action] | None = None
        self._fastest = fastest
        self._count = count
        self._made: dict[tuple[LogIndex, Term], _Made] = {}
        self._renewed: dict[int, Nanoseconds] = {}
        self._frontier: tuple[LogIndex, int] = (0, 0)

    def made(self, entries: Sequence[Entry], now: Nanoseconds, skew: Nanoseconds) -> None:
        """A node hands entries to its storage; the first who does is the leader that has just made them."""
        for entry in entries:
            self._made.setdefault((entry.index, entry.term), _Made(now, now + skew))

    def look(self, machine: StateMachine, place: tuple[LogIndex, int]) -> Known | None:
        """Before something is applied at this place of the log; None if another node has applied it already."""
        if place <= self._frontier or not isinstance(machine, KvStateMachine):
            return None
        table = machine.store.leases
        return {lease.id: (lease, table.keys_of(lease.id)) for lease in table.freeze().leases}

    def applied(
        self,
        known: Known | None,
        machine: StateMachine,
        place: tuple[LogIndex, int],
        commands: Sequence[bytes],
        results: Sequence[bytes],
        context: ApplyContext,
    ) -> None:
        """Afterwards."""
        if known is None or not isinstance(machine, KvStateMachine):
            return
        self._frontier = place
        made = self._made.get((context.index, context.term), _Made(0, 0))
        for command, result in zip(commands, results, strict=True):
            if command[:1] and command[0] in _ENDINGS:
                self._ended(command, result, known, made)
        for lease in machine.store.leases.freeze().leases:
            before = known.get(lease.id)
            if before is None or before[0].deadline != lease.deadline:
                self._renewed[lease.id] = made.earliest

    def _ended(self, command: bytes, result: bytes, known: Known, made: _Made) -> None:
        decoded = decode_lease_command(command)
        number: int = decoded.lease  # type: ignore[union-attr]
        expires = command[0] == LeaseCommandKind.EXPIRE
        try:
            count = decode_lease_ended(result)
        except (NotAppliedError, ConnectionError):
            self._count("lease: an end that came too late")
            return
        self._count("lease: expired" if expires else "lease: revoked")
        lease, keys = known[number]
        if expires:
            self._judge(lease, made)
        if count != len(keys):
            raise InvariantBroken("I11", f"{lease} ends with {count} keys; {len(keys)} hang on it")
        if keys and self.history is not None:
            handle = self.history.invoke("the cluster", Transaction((), tuple(map(Delete, keys))))
            gone = TransactionResult(True, (True,) * len(keys))
            self.history.ok(handle, gone, _REVISION.unpack_from(result)[0])

    def _judge(self, lease: Lease, made: _Made) -> None:
        lived = made.latest - self._renewed[lease.id]
        due = lease.ttl * _MILLION // (_MILLION + self._fastest) - _ROUNDING
        if lived < due:
            raise InvariantBroken(
                "I11", f"{lease} is expired {lived / 1e9:.6f} s after it was granted or kept alive"
            )
