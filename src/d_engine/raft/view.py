"""What can be seen of the core from outside. Looking changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from d_engine.format.configuration import Configuration
from d_engine.format.entry import Entry
from d_engine.format.ids import NOBODY, Incarnation, LogIndex, Nanoseconds, NodeId, Term
from d_engine.format.messages import SnapshotMeta
from d_engine.raft.effects import Role
from d_engine.raft.reads import Reads
from d_engine.raft.state import RaftState


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What a leader knows of a peer. `lag` is in entries; `state` one of "probe", "replicate", "snapshot".
    `quarantined`: it has said that it may have lost data (`d_engine.raft.isolation`)."""

    match_index: LogIndex
    next_index: LogIndex
    state: str
    lag: int
    in_flight_bytes: int
    last_contact: Nanoseconds
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class RaftStatus:
    """One node's state at a moment. `pending_change` is the step of members that is under way, in words, empty if there
    is none, `transferee` to whom leadership is being given, `NOBODY` if it is not. `peers` is empty unless it leads."""

    role: Role
    term: Term
    leader: NodeId
    ready: bool
    first_index: LogIndex
    last_index: LogIndex
    durable_index: LogIndex
    commit_index: LogIndex
    applied_index: LogIndex
    configuration: Configuration
    configuration_index: LogIndex
    pending_change: str
    transferee: NodeId
    peers: Mapping[NodeId, PeerStatus]


class RaftView:
    """The reading half of `d_engine.raft.core.Raft`."""

    def __init__(self, state: RaftState, reads: Reads) -> None:
        self._state = state
        self._reads = reads
        self.incarnation: Incarnation = state.settings.incarnation
        """Of this node's data directory."""

    @property
    def deadline(self) -> Nanoseconds:
        """When `Raft.tick` must be called next."""
        state = self._state
        if state.leading is not None:
            return state.leading.next_heartbeat
        asking = self._reads.deadline
        return state.election_deadline if asking is None else min(asking, state.election_deadline)

    @property
    def node_id(self) -> NodeId:
        """This node."""
        return self._state.node_id

    @property
    def role(self) -> Role:
        """What this node does in its term."""
        return self._state.role

    @property
    def term(self) -> Term:
        """The newest term that this node knows of."""
        return self._state.term

    @property
    def leader(self) -> NodeId:
        """This term's leader, `NOBODY` if it is not known."""
        return self._state.leader

    def is_led(self, now: Nanoseconds) -> bool:
        """True if this node leads, or has heard a leader within a maximal election time-out. (`leader` alone may be one
        that has been gone for long: a learner does not look for another.)"""
        state = self._state
        heard = state.contact_at is not None and now - state.contact_at < state.settings.election_max_ns
        return state.leading is not None or (state.leader != NOBODY and heard)

    @property
    def ready(self) -> bool:
        """True on a leader that has applied its term's first entry."""
        return self._state.is_ready

    @property
    def accepts_proposals(self) -> bool:
        """True on a leader that is not giving its leadership away."""
        leading = self._state.leading
        return leading is not None and leading.transfer is None

    @property
    def commit_index(self) -> LogIndex:
        """Everything up to here is decided for ever."""
        return self._state.log.commit_index

    @property
    def applied_index(self) -> LogIndex:
        """Everything up to here was reported as applied."""
        return self._state.log.applied_index

    @property
    def first_index(self) -> LogIndex:
        """The first entry that the log still holds."""
        return self._state.log.first_index

    @property
    def last_index(self) -> LogIndex:
        """The last entry, durable or not."""
        return self._state.log.last_index

    @property
    def configuration(self) -> Configuration:
        """The one in force: effective when appended. Without members on a node that has not joined yet."""
        return self._state.log.configuration

    @property
    def configuration_index(self) -> LogIndex:
        """Where the configuration in force stands in the log; 0 for the bootstrap configuration."""
        return self._state.log.configuration_index

    @property
    def committed_configuration(self) -> Configuration:
        """The newest configuration that can no longer be rolled back."""
        return self._state.log.committed_configuration

    @property
    def highest_log_time(self) -> Nanoseconds:
        """From where a leader of this log may go on: the last entry's log time, or what a heartbeat of that entry's
        term said since. Not what leaders of other terms said: their clocks may have run ahead of this log's."""
        return self._state.log_time

    def snapshot_meta(self, index: LogIndex) -> SnapshotMeta | None:
        """What a snapshot of the state at `index` stands for; None if the log does not reach there any more."""
        log = self._state.log
        term = log.term_at(index)
        if term is None or not 0 < index <= log.commit_index:
            return None
        return SnapshotMeta(index, term, log.configuration_at(index))

    def entries(self, first: LogIndex, max_bytes: int) -> tuple[Entry, ...]:
        """Committed entries from `first` on, for applying: at least one if there is one, up to about `max_bytes`."""
        log = self._state.log
        return log.slice(first, log.commit_index, max_bytes) if first <= log.commit_index else ()

    def status(self) -> RaftStatus:
        """Everything that operators ask for."""
        state, log = self._state, self._state.log
        leading = state.leading
        progress = {} if leading is None else leading.progress
        peers = {
            peer: PeerStatus(
                match_index=known.match_index,
                next_index=known.next_index,
                state=known.state.value,
                lag=log.last_index - known.match_index,
                in_flight_bytes=known.in_flight_bytes,
                last_contact=known.contact,
                quarantined=known.quarantined,
            )
            for peer, known in progress.items()
        }
        return RaftStatus(
            role=state.role,
            term=state.term,
            leader=state.leader,
            ready=state.is_ready,
            first_index=log.first_index,
            last_index=log.last_index,
            durable_index=log.durable_index,
            commit_index=log.commit_index,
            applied_index=log.applied_index,
            configuration=log.configuration,
            configuration_index=log.configuration_index,
            pending_change=state.pending_change,
            transferee=NOBODY if leading is None or leading.transfer is None else leading.transfer.to,
            peers=peers,
        )
