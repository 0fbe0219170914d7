"""One node of the Raft protocol: `(state, event, now) -> effects`, with no clock, disk, network or chance of its own
(Raft: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm"; Ongaro's dissertation).

The caller feeds events in any number, then takes the effects once (`Raft.effects`), carries them out in the order that
`d_engine.raft.effects` gives, and repeats until there are none. What is where:

    election      terms, votes, pre-vote, loyalty, check-quorum      quorum        majorities
    replication   the leader's half of log replication, commit       progress      one peer's log
    following     the follower's half, snapshots                     log           the log and its marks
    inbox         terms of messages, and whom they are for           view          what can be seen from outside
    reads         ReadIndex, leases                                  rounds        confirmations of leadership
    changes       membership in the log, a term's first entry        membership    configurations
    transfer      giving leadership away                             durability    persist before promise
    isolation     quarantine of a node whose data is doubted

The ordering rules, each argued where it is kept:

1. Nothing leaves before what it promises is durable; a heartbeat's echo promises only its term (`durability`).
2. A storage completion counts only as far as what it wrote is still in the log (`durability`).
3. The commit index moves only to an entry of the present term that a majority has durably (`replication`).
4. A leader tells nobody a commit index that it has not itself applied (`state.told_commit`), and serves no read before
   its term's first entry is applied (`reads`).
5. Nothing committed is ever cut off (`log`); two leaders in one term stop the node (`state.hear_leader`).

`now` is integer nanoseconds of a clock that counts suspended time and never goes back. For messages it must be read
after the message was taken from the wire (loyalty is measured from it); for `effects`, before anything is sent (leases
are measured from it).
"""

from collections.abc import Container, Sequence

from d_engine.format.configuration import Configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import InvariantViolation
from d_engine.format.ids import NOBODY, Incarnation, LogIndex, Nanoseconds, NodeId
from d_engine.format.messages import RaftMessage, SnapshotMeta
from d_engine.format.state import RecoveredLog
from d_engine.raft.changes import Changes
from d_engine.raft.effects import Effects, LeaderState, Role
from d_engine.raft.election import Election
from d_engine.raft.errors import NotLeader
from d_engine.raft.following import FollowerLog
from d_engine.raft.inbox import Inbox
from d_engine.raft.isolation import Isolation
from d_engine.raft.log import RaftLog, Reader
from d_engine.raft.membership import NO_MEMBERS, Change
from d_engine.raft.reads import Reads
from d_engine.raft.replication import Replication
from d_engine.raft.settings import RaftSettings as RaftSettings
from d_engine.raft.state import RaftState, RandomBits
from d_engine.raft.transfer import Transfer
from d_engine.raft.view import RaftView


class Raft(RaftView):
    """One node. See the module's text for how to drive it, `RaftView` for what can be seen."""

    def __init__(
        self,
        settings: RaftSettings,
        recovered: RecoveredLog,
        bootstrap: Configuration | None,
        reader: Reader,
        random_bits: RandomBits,
        now: Nanoseconds,
    ) -> None:
        """`bootstrap` (cluster id 0) is in force while neither log nor snapshot holds a configuration; None on a node
        that is to join. `reader` returns entries that storage was given; `random_bits(k)` draws k bits."""
        settings.validate()
        log = RaftLog(recovered, bootstrap or NO_MEMBERS, reader, settings.cache_bytes)
        state = RaftState(settings, log, recovered.hard_state, random_bits, now)
        self._replication = Replication(state)
        super().__init__(state, Reads(state, self._replication))
        if log.last_index >= log.first_index:
            state.log_time = log.slice(log.last_index, log.last_index, 0)[0].log_time
        self._transfer = Transfer(state)
        self.isolation = Isolation(state, self._transfer)
        self._changes = Changes(state, self._replication, self._transfer)
        self._election = Election(state, self._changes, self._transfer, now)
        self._follower_log = FollowerLog(state)
        self._inbox = Inbox(state, self._election, self._follower_log, self._replication, self._reads)
        # What a damaged log had last said of term and vote may be gone from it.
        state.durability.rewrite = recovered.quarantine is not None
        self.published_lease: Nanoseconds = 0
        """`lease_deadline` as of the last effects: it is set before anything that would make it wrong is sent. Other
        threads may read it."""
        self._told_commit = log.commit_index
        self.told_standing = (Role.FOLLOWER, 0, NOBODY, False)
        """Role, term, leader and readiness, as the last effects told them."""

    # --- time and messages -------------------------------------------------------------------------------------------

    def tick(self, now: Nanoseconds) -> None:
        """Time has passed. Calling it early or late is safe."""
        self._election.tick(now)

    def step(self, sender: NodeId, message: RaftMessage, now: Nanoseconds) -> None:
        """A peer said this. The transport has made sure that it is the sender, and of this cluster."""
        self._inbox.step(sender, message, now)

    # --- what the replica wants --------------------------------------------------------------------------------------

    def propose(
        self,
        payload: Sequence[bytes],
        count: int,
        log_time: Nanoseconds,
        now: Nanoseconds,
        kind: EntryKind = EntryKind.COMMANDS,
    ) -> Entry:
        """Append an entry of `count` groups (or of another kind than commands). Raises `NotLeader`.

        Log time never falls along the log: an entry gets at least the highest log time seen.
        """
        if not self.accepts_proposals:
            raise NotLeader(f"node {self.node_id} does not lead, or is giving leadership away")
        return self._state.append(kind, payload, count, log_time)

    def propose_change(
        self, change: Change | Sequence[Change], log_time: Nanoseconds, now: Nanoseconds
    ) -> LogIndex:
        """Change the members, by all the changes given, in one step; returns the index of the step's first entry.

        It is done when the committed configuration is not joint and stands at or behind that index. Raises
        `NotLeader`, `ChangePendingError`, `MembershipError`; nothing was appended then.
        """
        changes = change if isinstance(change, Sequence) else (change,)
        return self._changes.propose(changes, log_time, now)

    def transfer(self, to: NodeId, now: Nanoseconds) -> None:
        """Give leadership to a voter. The status names it until it took over, or the attempt was given up."""
        self._transfer.start(to, now)

    def best_transferee(self, now: Nanoseconds) -> NodeId:
        """The voter that is alive and whose log is furthest; `NOBODY` if there is none, or this node does not lead."""
        return self._transfer.best(now)

    def read(self, now: Nanoseconds) -> int:
        """Take part in the next round; returns the batch that `ReadReady` will cover."""
        return self._reads.join()

    @property
    def lease_deadline(self) -> Nanoseconds:
        """Until when reads may be answered from this leader's applied state without asking anybody; 0 if not at all.
        To be compared with the clock at that moment."""
        return self._reads.lease_deadline

    def set_log_time(self, log_time: Nanoseconds) -> None:
        """A leader's log time has come this far, and heartbeats carry it; or that of a snapshot, behind which the log
        begins anew."""
        self._state.log_time = max(self._state.log_time, log_time)

    # --- what storage, state machine and network report --------------------------------------------------------------

    def persisted(self, seq: int, now: Nanoseconds) -> None:
        """Everything handed over up to `seq` is durable."""
        if self._state.durability.persisted(seq, self._state.log, now):
            self._election.vote_persisted(now)

    def applied(self, index: LogIndex, now: Nanoseconds) -> None:
        """The state machine has everything up to `index`."""
        log = self._state.log
        if index > log.commit_index:
            raise InvariantViolation(f"index {index} was applied; only {log.commit_index} is committed")
        if index > log.applied_index:
            log.applied_index = index
            self._changes.settle(now)

    def snapshot_taken(self, meta: SnapshotMeta) -> None:
        """A snapshot of this node's own state is durable: from now on it is what peers that are far behind get."""
        self._state.log.snapshot_taken(meta)

    def compacted(self, index: LogIndex) -> None:
        """Entries up to `index`, for which a snapshot stands, are no longer in storage."""
        self._state.log.compact(index)

    def snapshot_installed(self, meta: SnapshotMeta, now: Nanoseconds) -> bool:
        """A snapshot from a peer is durable. True: the log starts anew behind it; the caller resets storage and
        restores the state machine before it carries out further effects. False: it came too late, nothing changes."""
        return self._follower_log.snapshot_installed(meta)

    def peer_unreachable(self, peer: NodeId, now: Nanoseconds) -> None:
        """The connection is lost, and maybe what was sent on it."""
        self._replication.restart(peer, forget=False, now=now)

    def peer_incarnation(self, peer: NodeId, incarnation: Incarnation, now: Nanoseconds) -> None:
        """The peer has shown its data directory (and the transport has admitted it)."""
        known = self._state.show_incarnation(peer, incarnation)
        if known not in (None, incarnation):
            self._replication.restart(peer, forget=True, now=now)
        self._changes.settle(now)

    def peers_dropped(self, kept: Container[NodeId]) -> None:
        """All connections but those with these were closed. Who comes back shows its data directory anew."""
        self._state.forget_incarnations(kept)

    # --- effects -----------------------------------------------------------------------------------------------------

    def effects(self, now: Nanoseconds) -> Effects:
        """Everything that is to be done now. Starts the turn's round and sends what flow control lets through."""
        state = self._state
        leading = state.leading
        if leading is not None:
            self._replication.advance_commit(leading)
            if leading.transfer is not None:
                self._transfer.drive(leading, now)
            self._reads.run_round(leading, now)
            self._replication.send_appends(leading, now)
        else:
            self._reads.ask(now)
            self._follower_log.acknowledge()
        effects = Effects(
            state.durability.take_persist(state.hard_state, state.log, now),
            state.durability.take_messages(),
            read_ready=self._reads.take_ready(),
        )
        if state.install is not None:
            effects.install, state.install = state.install, None
        if state.log.commit_index != self._told_commit:
            effects.commit_index = self._told_commit = state.log.commit_index
        ready = leading is not None and state.log.applied_index >= leading.first_index
        standing = (
            state.role if leading is None else Role.LEADER,
            state.hard_state.term,
            state.leader,
            ready,
        )
        if standing != self.told_standing:
            self.told_standing = standing
            effects.leader_state = LeaderState(*standing)
        self.published_lease = self._reads.lease_deadline
        return effects
