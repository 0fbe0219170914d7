"""What a node does for clients, embedded or remote: the same for both, on the engine's thread.

Every method either calls `done` once, now or later, or raises a `DEngineError` and never calls it.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from d_engine.engine.status import leader_of, members_of, status_of
from d_engine.format.configuration import Member
from d_engine.format.errors import DEngineError, InvalidRequestError
from d_engine.format.ids import Nanoseconds
from d_engine.replica.changer import TRANSFER
from d_engine.replica.outcome import GroupDone, ReadDone
from d_engine.replica.replica import Replica

DocumentDone: TypeAlias = Callable[[bytes, DEngineError | None], None]
"""Gets a JSON document, or an error."""


class _Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of the operations that name a member."""

    to: int = 0
    id: int = 0
    address: str = ""
    incarnation: int = 0


_TARGET = msgspec.json.Decoder(_Target)
_CHANGES = ("add_learner", "remove", "promote", "demote", "set_address")


class NodeBackend:
    """One node's answers."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.propose: Callable[[bytes, Nanoseconds, GroupDone], None] = replica.propose
        self.open_session: Callable[[Nanoseconds, GroupDone], None] = replica.open_session
        self.read: Callable[[int, int, Nanoseconds, int, ReadDone], None] = replica.read
        self.query: Callable[[bytes], bytes] = replica.applier.state_machine.query

    def manage(self, operation: str, arguments: bytes, timeout: Nanoseconds, done: DocumentDone) -> None:
        """Everything rare."""
        if operation == "status":
            done(msgspec.json.encode(status_of(self._replica)), None)
        elif operation == "members":
            done(msgspec.json.encode(members_of(self._replica)), None)
        elif operation == "leader":
            done(msgspec.json.encode(leader_of(self._replica)), None)
        elif operation == TRANSFER:
            self._change(TRANSFER, Member(_target(arguments).to), timeout, done)
        elif operation in _CHANGES:
            target = _target(arguments)
            self._change(operation, Member(target.id, target.address, target.incarnation), timeout, done)
        else:
            raise InvalidRequestError(f"there is no operation {operation!r}")

    def _change(self, kind: str, member: Member, timeout: Nanoseconds, done: DocumentDone) -> None:
        if member.id < 1:
            raise InvalidRequestError(f"{kind} needs a member's id, from 1; got {member.id}")
        self._replica.change(kind, member, timeout, lambda error: done(b"null", error))


def _target(arguments: bytes) -> _Target:
    try:
        return _TARGET.decode(arguments)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"the arguments do not fit: {error}") from None
