"""Entries that a leader makes of its own accord: its term's first one, changes of members, leaving joint states
(Raft, 8 "no-op"; dissertation, 4.1 to 4.3, 6.4).

*The term's first entry.* A new leader cannot know which entries are committed until one of its own term is (figure 8).
So it begins with a no-op. In an empty log the first entry is instead the birth of the cluster: the configuration with a
random cluster id and the incarnations that are known by then. Nothing can stand before it.

*One change at a time.* A change is refused while the configuration in force is not committed, while it is joint, and
before the term's first entry is applied. The last rule closes the hole of the dissertation's original single-server
change: a new leader must not append a configuration next to one of an earlier term that it does not know to be dead.

*Leaving.* Once a joint configuration is committed and applied, whoever leads appends the one that leaves it. Once a
configuration without this leader among the voters is committed and applied, it stops leading (4.2.2); until then it
leads without counting itself.

*Binding.* An unbound member that has shown its data directory is bound by a configuration entry. That changes no set
of voters, so it needs no joint state: the sizes of all majorities stay as they are.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from d_engine.format.configuration import Configuration, encode_configuration
from d_engine.format.entry import EntryKind
from d_engine.format.errors import ChangePendingError
from d_engine.format.ids import LogIndex, Nanoseconds
from d_engine.raft.errors import NotLeader
from d_engine.raft.membership import Bind, Change, enter, leave, target_of
from d_engine.raft.replication import Replication
from d_engine.raft.state import Leading, RaftState
from d_engine.raft.transfer import Transfer


class Changes:
    """The configuration's way through the log."""

    def __init__(self, state: RaftState, replication: Replication, transfer: Transfer) -> None:
        self._state = state
        self._replication = replication
        self._transfer = transfer

    def begin_term(self, leading: Leading, now: Nanoseconds) -> None:
        """The new leader's first entry: the cluster's birth in an empty log, else a no-op."""
        state = self._state
        if state.log.last_index == 0:
            self._append(self._birth(), state.log_time, now)
        else:
            state.append(EntryKind.NOOP, (), 0, state.log_time)
            self._replication.follow_configuration(leading, now)

    def _birth(self) -> Configuration:
        state, bootstrap = self._state, self._state.configuration
        members = tuple(
            replace(member, incarnation=state.incarnations.get(member.id, 0)) for member in bootstrap.members
        )
        return replace(bootstrap, cluster_id=max(1, state.random_bits(63)), members=members)

    def propose(self, changes: Sequence[Change], log_time: Nanoseconds, now: Nanoseconds) -> LogIndex:
        """Append the first configuration of the step. Raises `NotLeader`, `ChangePendingError`, `MembershipError`."""
        state = self._state
        leading = state.leading
        if leading is None or leading.transfer is not None:
            raise NotLeader(f"node {state.node_id} does not lead, or is giving leadership away")
        if not state.is_ready:
            raise ChangePendingError("the leader has not committed anything in its term yet; try again")
        pending = state.pending_change
        if pending:
            raise ChangePendingError(f"another change is not finished: {pending}; wait, then try again")
        target = target_of(state.configuration, changes, state.incarnations)
        return self._append(enter(state.configuration, target), log_time, now)

    def _append(self, configuration: Configuration, log_time: Nanoseconds, now: Nanoseconds) -> LogIndex:
        payload = encode_configuration(configuration)
        entry = self._state.append(EntryKind.CONFIGURATION, (payload,), 0, log_time)
        if self._state.leading is not None:
            self._replication.follow_configuration(self._state.leading, now)
        return entry.index

    def settle(self, now: Nanoseconds) -> None:
        """Something was applied, or a member was seen: take the next step, if there is one and it is this leader's."""
        state, log = self._state, self._state.log
        if not state.is_ready or log.configuration_index > state.told_commit:
            return
        configuration = log.configuration
        if configuration.joint:
            self._append(leave(configuration), state.log_time, now)
        elif state.node_id not in configuration.voters:
            self._transfer.abdicate(now)
        else:
            self._bind(configuration, now)

    def _bind(self, configuration: Configuration, now: Nanoseconds) -> None:
        state = self._state
        binds = [
            Bind(member.id, state.incarnations[member.id])
            for member in configuration.members
            if member.incarnation == 0 and member.id in state.incarnations
        ]
        if binds:
            self._append(target_of(configuration, binds, state.incarnations), state.log_time, now)
