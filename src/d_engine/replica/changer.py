"""Carrying out changes of members and of leadership: here if this node leads, else by asking the leader."""

from d_engine.format.configuration import Member
from d_engine.format.errors import (
    DEngineError,
    InvalidRequestError,
    MembershipError,
    NoLeaderError,
    error_from_code,
)
from d_engine.format.hello import Channel
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import ChangeRequest, ChangeResponse
from d_engine.raft.core import Raft
from d_engine.raft.effects import Role
from d_engine.raft.membership import AddLearner, Change, Demote, Promote, Remove, SetAddress
from d_engine.replica.changes import ChangeDone, ChangeQueue
from d_engine.replica.log_clock import LogClock
from d_engine.replica.ports import Network

TRANSFER = "transfer"
SERVED_CHANGE_TIMEOUT: Nanoseconds = 60_000_000_000
"""How long a leader remembers whom to answer. The asker has its own, shorter, time-out."""


def change_of(kind: str, member: Member) -> Change:
    """The core's change for a request's words."""
    changes: dict[str, Change] = {
        "add_learner": AddLearner(member),
        "remove": Remove(member.id),
        "promote": Promote(member.id),
        "demote": Demote(member.id),
        "set_address": SetAddress(member.id, member.address),
    }
    if kind not in changes:
        raise InvalidRequestError(
            f"{kind!r} is no change of members; known are {', '.join(changes)} and {TRANSFER}"
        )
    return changes[kind]


class Changer:
    """Turns requests into the core's changes and keeps track of who waits for them."""

    def __init__(self, raft: Raft, network: Network, changes: ChangeQueue, log_clock: LogClock) -> None:
        self._raft = raft
        self._network = network
        self.changes = changes
        self._log_clock = log_clock

    def carry_out(
        self, kind: str, member: Member, now: Nanoseconds, deadline: Nanoseconds, done: ChangeDone
    ) -> None:
        """This node leads: do it."""
        try:
            if kind == TRANSFER:
                self._raft.transfer(member.id, now)
                self.changes.transferring(done, deadline)
            else:
                index = self._raft.propose_change(change_of(kind, member), self._log_clock.read(now), now)
                self.changes.proposed(index, done, deadline)
        except DEngineError as error:
            done(error)

    def ask(self, leader: NodeId, kind: str, member: Member, deadline: Nanoseconds, done: ChangeDone) -> None:
        """Another node leads: ask it."""
        request = self.changes.sent(done, deadline)
        self._network.send(leader, Channel.CONTROL, ChangeRequest(request, kind, member))

    def serve(self, sender: NodeId, request: ChangeRequest, now: Nanoseconds) -> None:
        """Another node asks us."""

        def answer(error: DEngineError | None) -> None:
            code, text = ("", "") if error is None else (error.code, str(error))
            self._network.send(sender, Channel.CONTROL, ChangeResponse(request.request, code, text))

        if self._raft.role is Role.LEADER:
            self.carry_out(request.kind, request.member, now, now + SERVED_CHANGE_TIMEOUT, answer)
        else:
            answer(NoLeaderError(f"node {self._raft.node_id} does not lead; nothing was changed"))

    def answered(self, response: ChangeResponse) -> None:
        """The leader's answer to a request of ours."""
        error = error_from_code(response.code, response.text) if response.code else None
        self.changes.answered(response.request, error)

    def watch_transfer(self) -> None:
        """Once a turn: has the transfer that somebody waits for ended?"""
        if self._raft.role is not Role.LEADER:
            self.changes.transferred(None)
        elif not self._raft.transferee:
            self.changes.transferred(
                MembershipError(
                    "the transfer was given up: the other node did not take over in time; nothing changed"
                )
            )

    def hand_over(self, now: Nanoseconds) -> None:
        """Give leadership to the member that is furthest, if there is one: this node cannot serve writes."""
        target = self._raft.best_transferee(now)
        if target:
            self._raft.transfer(target, now)
