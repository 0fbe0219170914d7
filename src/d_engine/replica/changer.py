"""Carrying out changes of members and of leadership: here if this node leads, else by asking the leader."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from d_engine.format.configuration import Configuration
from d_engine.format.errors import (
    ChangePendingError,
    DEngineError,
    InvalidRequestError,
    MembershipError,
    NoLeaderError,
    error_from_code,
)
from d_engine.format.hello import Channel
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import ChangeRequest, ChangeResponse, MemberChange
from d_engine.raft.core import Raft
from d_engine.raft.effects import Role
from d_engine.raft.membership import AddLearner, Change, Demote, Promote, Remove, SetAddress
from d_engine.replica.changes import ChangeDone, ChangeQueue
from d_engine.replica.log_clock import LogClock
from d_engine.replica.ports import Network
from d_engine.replica.promotion import Promotion

TRANSFER = "transfer"
SERVED_CHANGE_TIMEOUT: Nanoseconds = 60_000_000_000
"""How long a leader remembers whom to answer. The asker has its own, shorter, time-out."""

MemberChanges: TypeAlias = Sequence[MemberChange]


def change_of(asked: MemberChange) -> Change:
    """The core's change for a request's words."""
    member = asked.member
    changes: dict[str, Change] = {
        "add_learner": AddLearner(member, asked.read_only),
        "remove": Remove(member.id),
        "promote": Promote(member.id),
        "demote": Demote(member.id),
        "set_address": SetAddress(member.id, member.address),
    }
    if asked.kind not in changes:
        raise InvalidRequestError(
            f"{asked.kind!r} is no change of members that can be part of a step; known are {', '.join(changes)}"
        )
    return changes[asked.kind]


def is_done(change: Change, configuration: Configuration) -> bool:
    """Whether the change was made already. An answer can be lost: asking twice changes nothing. Raises
    `MembershipError` for a newcomer that can never be the node that is meant."""
    if not isinstance(change, AddLearner):
        return False
    asked, member = change.member, configuration.member(change.member.id)
    if member is None:
        if not asked.address and not asked.incarnation:
            raise MembershipError(
                f"node {asked.id} is no member yet, and nobody knows where it is: start it with --join, or give"
                " its address"
            )
        return False
    if asked.incarnation and member.incarnation and asked.incarnation != member.incarnation:
        raise MembershipError(
            f"node {member.id} is a member already, at {member.address or 'no address'}, with another data directory; "
            "start the node on that one, or remove the member first, or use another node id"
        )
    if asked.address not in ("", member.address):
        raise MembershipError(
            f"node {member.id} is a member already, at {member.address or 'no address'}, not at "
            f"{asked.address}; change its address, or remove it first"
        )
    return True


def only_binds(before: Configuration, after: Configuration) -> bool:
    """Whether the step between them does no more than bind members to their data directories."""
    places = [[(member.id, member.address) for member in each.members] for each in (before, after)]
    return places[0] == places[1] and (
        (before.voters, before.outgoing, before.learners, before.demoted)
        == (after.voters, after.outgoing, after.learners, after.demoted)
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """A request that waits until a member is bound."""

    changes: MemberChanges
    force: bool
    deadline: Nanoseconds
    done: ChangeDone


class Changer:
    """Turns requests into the core's changes and keeps track of who waits for them."""

    def __init__(
        self, raft: Raft, network: Network, changes: ChangeQueue, log_clock: LogClock, promotion: Promotion
    ) -> None:
        self._raft = raft
        self._network = network
        self.changes = changes
        self._log_clock = log_clock
        self.promotion = promotion
        self._held: list[_Held] = []

    def carry_out(
        self, changes: MemberChanges, force: bool, now: Nanoseconds, deadline: Nanoseconds, done: ChangeDone
    ) -> None:
        """This node leads: do it."""
        try:
            if len(changes) == 1 and changes[0].kind == TRANSFER:
                self._raft.transfer(changes[0].member.id, now)
                self.changes.transferring(changes[0].member.id, done, deadline)
            else:
                self._propose(changes, force, now, deadline, done)
        except DEngineError as error:
            done(error)

    def _propose(
        self, asked: MemberChanges, force: bool, now: Nanoseconds, deadline: Nanoseconds, done: ChangeDone
    ) -> None:
        raft, configuration = self._raft, self._raft.configuration
        changes = [change for change in map(change_of, asked) if not is_done(change, configuration)]
        pending = raft.status().pending_change
        if not changes:
            if pending:
                self.changes.proposed(raft.configuration_index, done, deadline)
            else:
                done(None)
            return
        if raft.ready and pending and only_binds(raft.committed_configuration, configuration):
            # A step that nobody asked for is nobody's business: it is over in a moment.
            self._held.append(_Held(asked, force, deadline, done))
            return
        objection = "" if force or pending or not raft.ready else self.promotion.objection(changes, now)
        if objection:
            raise MembershipError(f"refused, unless it is forced: {objection}")
        self.changes.proposed(raft.propose_change(changes, self._log_clock.read(now), now), done, deadline)

    def drive(self, now: Nanoseconds) -> None:
        """Once a turn: what waited, and what the leader does by itself."""
        held, self._held = self._held, []
        leads = self._raft.role is Role.LEADER
        for waiting in held:
            if not leads:
                waiting.done(NoLeaderError("the leader changed; nothing was changed"))
            elif waiting.deadline <= now:
                waiting.done(ChangePendingError("a member was being bound all the time; nothing was changed"))
            else:
                self.carry_out(waiting.changes, waiting.force, now, waiting.deadline, waiting.done)
        if leads:
            self.promotion.drive(self._log_clock.read(now), now)

    def fail(self, error: DEngineError) -> None:
        """The node stops."""
        held, self._held = self._held, []
        for waiting in held:
            waiting.done(error)
        self.changes.fail(error)

    def ask(
        self, leader: NodeId, changes: MemberChanges, force: bool, deadline: Nanoseconds, done: ChangeDone
    ) -> None:
        """Another node leads: ask it."""
        request = self.changes.sent(done, deadline)
        self._network.send(leader, Channel.CONTROL, ChangeRequest(request, tuple(changes), force))

    def serve(self, sender: NodeId, request: ChangeRequest, now: Nanoseconds) -> None:
        """Another node asks us."""

        def answer(error: DEngineError | None) -> None:
            code, text = ("", "") if error is None else (error.code, str(error))
            self._network.send(sender, Channel.CONTROL, ChangeResponse(request.request, code, text))

        if self._raft.role is Role.LEADER:
            self.carry_out(request.changes, request.force, now, now + SERVED_CHANGE_TIMEOUT, answer)
        else:
            answer(NoLeaderError(f"node {self._raft.node_id} does not lead; nothing was changed"))

    def answered(self, response: ChangeResponse) -> None:
        """The leader's answer to a request of ours."""
        error = error_from_code(response.code, response.text) if response.code else None
        self.changes.answered(response.request, error)

    def watch_transfer(self) -> None:
        """Once a turn: has the transfer that somebody waits for ended?"""
        if self._raft.role is Role.LEADER:
            if self._raft.accepts_proposals:
                self.changes.transfer_given_up()
        elif self._raft.leader:
            self.changes.led_by(self._raft.leader)

    def hand_over(self, now: Nanoseconds) -> None:
        """Give leadership to the member that is furthest, if there is one: this node cannot serve writes."""
        target = self._raft.best_transferee(now)
        if target:
            self._raft.transfer(target, now)
