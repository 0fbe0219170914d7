"""One whole node, synchronous, over ports.

Inputs (messages, proposals, reads, completions, time) only take note and ask the host for a *turn*. A turn does all
that has gathered: it routes what clients gave, takes the core's effects, hands entries to storage, sends, applies what
is committed, answers. So the cost of everything between is paid per turn, however many commands wait.

The order within a turn is the one that safety needs: what is to be persisted is handed over first, then messages leave
(the core has held back those that promise what is not durable yet), then commands are applied and results go out.
"""

from collections.abc import Sequence
from typing import cast, get_args

from d_engine.format.configuration import Configuration
from d_engine.format.errors import (
    DEngineError,
    EngineStoppedError,
    NoLeaderError,
    OverloadedError,
    UnavailableError,
)
from d_engine.format.group import check_group, encode_open_session
from d_engine.format.hello import Hello, Refusal
from d_engine.format.ids import ClusterId, Nanoseconds, NodeId
from d_engine.format.messages import (
    ChangeRequest,
    ChangeResponse,
    DigestReport,
    Forward,
    MemberChange,
    NodeMessage,
    PeerMessage,
    RaftMessage,
)
from d_engine.format.requests import EVENTUAL, LEASE
from d_engine.format.state_machine import StateMachine
from d_engine.raft.core import Raft, RaftSettings
from d_engine.raft.effects import Role
from d_engine.replica.admission import Peers
from d_engine.replica.agenda import Agenda
from d_engine.replica.applier import Applier
from d_engine.replica.changer import Changer
from d_engine.replica.changes import ChangeDone, ChangeQueue
from d_engine.replica.counters import Counters
from d_engine.replica.departure import Departure
from d_engine.replica.executor import Executor
from d_engine.replica.guard import Guard
from d_engine.replica.listener import ReplicaListener
from d_engine.replica.log_clock import LogClock
from d_engine.replica.outcome import GroupDone, ReadDone
from d_engine.replica.ports import Host, Network
from d_engine.replica.promotion import Promotion
from d_engine.replica.reads import ReadQueue, WaitingRead
from d_engine.replica.recovery import recover_log
from d_engine.replica.router import Router
from d_engine.replica.sessions import SessionTable
from d_engine.replica.settings import ReplicaSettings
from d_engine.replica.snapshots import Snapshots
from d_engine.replica.snapshotter import SnapshotDone
from d_engine.replica.timekeeper import Timekeeper
from d_engine.replica.watches import Watches
from d_engine.replica.writes import WaitingGroup, WriteQueue
from d_engine.storage.api import LogStorage
from d_engine.storage.snapshots import SnapshotFiles

_NODE_MESSAGES = get_args(NodeMessage)


class Replica:
    """A node. Everything is called on one thread. Callbacks come from within a turn; a read that need not wait is
    answered within the call."""

    def __init__(
        self,
        settings: ReplicaSettings,
        host: Host,
        network: Network,
        storage: LogStorage,
        files: SnapshotFiles,
        state_machine: StateMachine,
        listener: ReplicaListener,
    ) -> None:
        """Recovers the log and restores the newest snapshot. Raises `StorageError` if the data cannot be used; nothing
        was changed then."""
        self.settings = settings
        self.error: DEngineError | None = None
        recovered, recorded = recover_log(storage, files.disk, settings)
        core, draw = _raft_settings(settings), host.random_bits
        self.raft = Raft(core, recovered, settings.bootstrap, storage.read, draw, host.now())
        self.counters = Counters()
        self._host = host
        self.storage = storage
        log_clock = LogClock()
        changes = ChangeQueue()
        self.writes = WriteQueue()
        self.reads = ReadQueue()
        timekeeper = Timekeeper(self.raft, storage, log_clock, state_machine, host.now)
        self.router = Router(self.raft, storage, network, self.writes, log_clock, timekeeper)
        self.changer = Changer(self.raft, network, changes, log_clock, Promotion(self.raft, settings))
        self.applier = Applier(state_machine, SessionTable(settings.max_sessions), self.router.resolve)
        snapshots = Snapshots(settings, self.raft, storage, files, network, self.applier, self.wake)
        self.executor = Executor(
            self.raft,
            storage,
            network,
            self.applier,
            self.router,
            self.reads,
            changes,
            log_clock,
            listener,
            self.counters,
            Departure(self.raft, settings.incarnation),
            snapshots,
            Watches(settings.watches, state_machine, host.now, self.wake),
            Guard(
                settings,
                self.raft,
                network,
                recorded,
                self.applier,
                log_clock,
                listener,
                self.reads,
                snapshots,
            ),
        )
        self.peers = Peers(settings, self.raft, network, lambda: self.cluster_id)
        self._agenda = Agenda(
            settings,
            lambda: host.call_soon(self._turn),
            self.raft,
            storage,
            self.writes,
            self.reads,
            self.changer,
            self.peers,
            self.executor,
            self.router.timekeeper,
        )
        restored = snapshots.recover(host.now())
        self.executor.guard.closed = self.raft.isolation.stands_still
        if restored is not None:
            self.executor.configured(restored.index, restored.configuration)

    @property
    def configuration(self) -> Configuration:
        """The newest applied configuration; before there is one, that which is in force."""
        return self.executor.configuration or self.raft.configuration

    @property
    def cluster_id(self) -> ClusterId:
        """0 until this node knows that the entry with which its cluster was born is decided: it has applied it, or its
        log has a change of members, which nobody makes before that. So a node that restarts knows at once."""
        configuration = self.executor.configuration
        if configuration is None and self.raft.configuration_index > 1:
            configuration = self.raft.configuration
        return 0 if configuration is None else configuration.cluster_id

    # --- life cycle ---

    def start(self) -> None:
        """Take part. The first turn comes soon; what has come in before is noted, and waits for it."""
        self.storage.start(self._persisted, self.fail, self._disk_full)
        self.peers.refresh(self._host.now())
        self._agenda.start()

    def fail(self, error: DEngineError) -> None:
        """Stop for good. Whoever waits gets an answer, the listener hears why."""
        if self.error is not None:
            return
        self.error = error
        self.raft.published_lease = 0
        self.executor.guard.closed = True
        stopped = (
            error if isinstance(error, EngineStoppedError) else EngineStoppedError("the node stopped", error)
        )
        self.writes.fail(stopped)
        self.reads.fail(stopped)
        self.changer.fail(stopped)
        self.executor.snapshots.taking.fail(stopped)
        self.executor.watches.fail(stopped)
        self.storage.close()
        self.executor.listener.failed(error)

    # --- what clients want ---

    def propose(self, group: bytes, timeout: Nanoseconds, done: GroupDone) -> None:
        """Apply a client's group. `done` gets the outcome, unless this raises: `OverloadedError`, `EngineStoppedError`
        or `MalformedError`, and nothing was done."""
        session, number, count = check_group(group)
        count = max(1, count)  # a session to be opened waits, too
        check_serving(self)
        if self.writes.waiting + count > self.settings.max_pending_writes:
            self.counters.overloaded += count
            raise OverloadedError(
                f"{self.writes.waiting} writes are waiting on node {self.settings.node_id}; try later"
            )
        deadline = self._host.now() + timeout
        self.writes.add(WaitingGroup((session, number), group, count, deadline, [done]))
        self._agenda.due_at(deadline)
        self._agenda.ask_turn()

    def open_session(self, timeout: Nanoseconds, done: GroupDone) -> None:
        """Open a session; the outcome's `revision` is its id."""
        self.propose(encode_open_session(self._host.random_bits(62) + 1), timeout, done)

    def read(self, policy: int, min_revision: int, timeout: Nanoseconds, count: int, done: ReadDone) -> None:
        """Call `done(None)` when `count` reads under this policy may be made on the state machine; if that is so now,
        within this call. Raises `OverloadedError` or `EngineStoppedError`."""
        check_serving(self)
        now = self._host.now()
        read = WaitingRead(done, count, now + timeout, min_revision)
        fresh = self.applier.state_machine.revision >= min_revision
        local = policy == EVENTUAL
        if policy == LEASE:
            local = now < self.raft.published_lease
            self.counters.count_lease(count, local)
        if local and fresh:
            read.finish(None)
            return
        if self.reads.waiting + count > self.settings.max_pending_reads:
            self.counters.overloaded += count
            raise OverloadedError(
                f"{self.reads.waiting} reads are waiting on node {self.settings.node_id}; try later"
            )
        if local:
            self.reads.await_revision(read)
        else:
            self.reads.join(read)
        self._agenda.due_at(read.deadline)
        self._agenda.ask_turn()

    def change(
        self, changes: Sequence[MemberChange], force: bool, timeout: Nanoseconds, done: ChangeDone
    ) -> None:
        """Change the members, all in one step, or the leadership. Carried out here if this node leads, else by the
        leader."""
        if self.error is not None:
            raise stopped(self.error)
        now = self._host.now()
        self.executor.keep_time(now)
        if self.raft.role is Role.LEADER:
            self.changer.carry_out(changes, force, now, now + timeout, done)
        elif self.raft.leader:
            self.changer.ask(self.raft.leader, changes, force, now + timeout, done)
        else:
            done(NoLeaderError(f"no leader is known, nothing was changed; {self.peers.describe()}"))
        self.wake()

    def snapshot(self, done: SnapshotDone) -> None:
        """Take a snapshot of what is applied here; `done` gets its header when it is on stable storage, or an error."""
        check_serving(self)
        self.executor.snapshots.taking.ask(done)
        self.wake()

    # --- what the world tells ---

    def receive(self, sender: NodeId, message: PeerMessage) -> None:
        """A member said this. Raises `MalformedError` if it makes no sense: the connection is to be closed."""
        if self.error is not None:
            return
        if not isinstance(message, _NODE_MESSAGES):
            self.raft.step(sender, cast(RaftMessage, message), self._host.now())
        elif isinstance(message, Forward):
            self.router.take(message.groups)
        else:
            self._agenda.chores_asked = True
            if isinstance(message, ChangeRequest):
                self.changer.serve(sender, message, self._host.now())
            elif isinstance(message, ChangeResponse):
                self.changer.answered(message)
            elif isinstance(message, DigestReport):
                self.executor.guard.markers.reported(sender, message)
            else:
                self.executor.snapshots.receive(sender, message, self._host.now())
        self._agenda.ask_turn()

    def peer_admit(self, hello: Hello) -> Refusal | None:
        """Somebody says hello: None if it may speak, else why not."""
        refusal = self.peers.admit(hello, self._host.now())
        self.wake()
        return refusal

    def peer_connected(self, peer: NodeId) -> None:
        """There is a way to this member: both sides have admitted each other."""
        self.peers.connected(peer)
        if peer == self.raft.leader:
            self.writes.reroute()
        self.wake()

    def peer_lost(self, peer: NodeId) -> None:
        """The connection to this member broke."""
        self.peers.lost(peer, self._host.now())
        self.wake()

    def peer_refused(self, peer: NodeId, refusal: Refusal) -> None:
        """This member does not want to talk to us."""
        error = self.peers.refused(peer, refusal, self._host.now())
        if error is not None:
            self.fail(error)

    # --- turns ---

    def wake(self) -> None:
        """Ask for a turn that does everything: something happened, or the timer rang."""
        if self.error is None:
            self._agenda.chores_asked = True
            self._agenda.ask_turn()

    def _turn(self) -> None:
        self._agenda.turn_asked = False
        if self.error is not None:
            return
        try:
            self._run_turn(self._host.now())
        except DEngineError as error:
            self.fail(error)

    def _run_turn(self, now: Nanoseconds) -> None:
        raft, agenda = self.raft, self._agenda
        if raft.deadline <= now:
            raft.tick(now)
        self.executor.keep_time(now)
        chores = agenda.is_due(now)
        if chores:
            agenda.begin(now)
        self.router.route(now)
        if self.reads.joining:
            self.reads.assign(raft.read(now))
        more = self.executor.run(now)
        if chores or agenda.is_other_now():
            more = agenda.finish(now) or more
        else:
            more = self.executor.watches.run(now) or more
            agenda.due_at(self.router.timekeeper.deadline(now))
        if more:
            self.wake()
        deadline = raft.deadline
        self._host.set_timer(deadline if deadline < agenda.deadline else agenda.deadline)

    def _persisted(self, seq: int) -> None:
        self.raft.persisted(seq, self._host.now())
        self._agenda.ask_turn()

    def _disk_full(self, full: bool) -> None:
        if full and self.raft.role is Role.LEADER:
            self.changer.hand_over(self._host.now())
        self.wake()


def check_serving(replica: Replica) -> None:
    """Raise `EngineStoppedError` or `UnavailableError` if clients must go elsewhere."""
    if replica.error is not None:
        raise stopped(replica.error)
    if replica.executor.guard.closed:
        raise UnavailableError(
            f"node {replica.settings.node_id} is in quarantine: its state is wrong and is being replaced; ask another"
        )


def stopped(error: DEngineError) -> EngineStoppedError:
    """What callers get of a node that ended with this error."""
    return error if isinstance(error, EngineStoppedError) else EngineStoppedError("the node stopped", error)


def _raft_settings(settings: ReplicaSettings) -> RaftSettings:
    return RaftSettings(
        node_id=settings.node_id,
        incarnation=settings.incarnation,
        heartbeat_ns=settings.heartbeat_ns,
        election_min_ns=settings.election_min_ns,
        election_max_ns=settings.election_max_ns,
        max_append_bytes=settings.max_append_bytes,
        max_in_flight_bytes=settings.max_in_flight_bytes,
        cache_bytes=settings.log_cache_bytes,
    )
