"""Rare situations that faults are meant to bring about, noticed where they show, and counted as "seen: ...".

A fault that fires is no proof that what it aims at has happened. These counters are: docs/design/simulation.md lists
them by scenario, `d_engine.testing.sim.scenarios` is the same list for batches, and a batch that is large enough
fails if one of them is missing. Looking changes nothing.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from d_engine.format.configuration import Configuration
from d_engine.format.entry import ENTRY_HEADER_BYTES, Entry, EntryKind
from d_engine.format.errors import DEngineError, NotMemberError
from d_engine.format.group import Group, decode_groups
from d_engine.format.ids import LogIndex, NodeId, Term
from d_engine.format.messages import (
    AppendRequest,
    ChangeRequest,
    InstallSnapshot,
    MemberChange,
    PeerMessage,
    SnapshotChunk,
)
from d_engine.kv.commands import CommandKind, CompareAndSwap, decode_command
from d_engine.raft.effects import Role
from d_engine.replica.changer import TRANSFER
from d_engine.storage.snapshots import RECEIVING_NAME, SAVING_NAME
from d_engine.testing.sim.trace import Trace

if TYPE_CHECKING:
    from d_engine.testing.sim.node import Process, SimNode
    from d_engine.testing.sim.safety import NodeRecord

LONG_SUFFIX = 20
VERY_LONG_SUFFIX = 10_000
_SWAP = bytes((CommandKind.COMPARE_AND_SWAP,))


class Sightings:
    """All nodes' together."""

    def __init__(self, trace: Trace) -> None:
        self._counters: Counter[str] = trace.counters
        self._groups: dict[tuple[int, int], tuple[LogIndex, Term]] = {}
        """By session and number, where a group stood first."""
        self._offers: dict[NodeId, tuple[LogIndex, Term]] = {}
        """The snapshot that each node was offered last."""
        self.newest_snapshot: LogIndex = 0

    def saw(self, what: str) -> None:
        """Once more."""
        self._counters[f"seen: {what}"] += 1

    # --- messages -------------------------------------------------------------------------------------------

    def received(self, node: "SimNode", process: "Process", message: PeerMessage) -> None:
        """A message is about to be handed to the process."""
        if isinstance(message, AppendRequest):
            last = message.prev_index + len(message.entries)
            log = node.record.log
            if message.entries and last < log.last_index and log.term_at(last) == message.entries[-1].term:
                self.saw("an append that ends before the log, and agrees with it")
        elif isinstance(message, InstallSnapshot):
            self._offers[node.id] = (message.snapshot.index, message.snapshot.term)
            if message.snapshot.index <= process.replica.raft.commit_index:
                self.saw("an offer of a snapshot that comes too late")
        elif isinstance(message, SnapshotChunk):
            if message.offset != process.replica.executor.snapshots.receiving.progress[0]:
                self.saw("a part of a snapshot that is not the next one")
            if (message.index, message.snapshot_term) != self._offers.get(node.id):
                self.saw("a part of another snapshot than the one that was offered last")
        elif isinstance(message, ChangeRequest):
            self.change_asked(process, message.changes)

    def change_asked(self, process: "Process", changes: Sequence[MemberChange]) -> None:
        """Somebody asks this node to change the members."""
        raft = process.replica.raft
        if raft.role is not Role.LEADER or changes[0].kind == TRANSFER:
            return
        if not raft.ready:
            self.saw("a change asked of a leader that has committed nothing yet")
        elif raft.status().pending_change:
            self.saw("a change asked while another one is under way")

    def transfer_disturbed(self, process: "Process", to: NodeId) -> None:
        """The node to which this process may be giving its leadership is about to die, or to hear nothing."""
        if process.replica.raft.status().transferee == to and process.replica.writes.waiting:
            self.saw("a transfer whose target is lost while writes are under way")

    def read_asked(self, process: "Process") -> None:
        """Somebody asks for a read here."""
        raft = process.replica.raft
        if raft.role is Role.LEADER and not raft.ready:
            self.saw("a read at a leader that has committed nothing yet")

    # --- lives and deaths -----------------------------------------------------------------------------------

    def started(self, node: "SimNode", process: "Process") -> None:
        """A process begins on what its disk holds."""
        replica = process.replica
        if node.id in replica.raft.configuration.learners:
            self.saw("a learner that starts again")
        if replica.executor.snapshots.files.refused:
            self.saw("a damaged snapshot that is refused at the start")

    def dying(self, node: "SimNode") -> None:
        """A process is killed, or its machine goes dark."""
        process = node.process
        if process is None:
            return
        raft, own = process.replica.raft, node.id
        configuration, committed = raft.configuration, raft.committed_configuration
        if configuration.outgoing:
            self.saw("a death in a joint configuration")
            if not set(configuration.voters) & set(configuration.outgoing):
                self.saw("a death in a joint configuration of two sets that share nobody")
        if process.replica.executor.snapshots.installing:
            self.saw("a death while a state is restored from a snapshot")
        if raft.role is Role.LEADER and own not in configuration.voters:
            self.saw("the death of a leader before its removal is committed")
        if configuration.voters == (own,) == committed.voters and node.record.oracle.has_unsynced:
            self.saw("the death of a sole voter while a write is under way")
        names = node.disk.files()
        if SAVING_NAME in names:
            self.saw("a death while a snapshot is written")
        if RECEIVING_NAME in names:
            self.saw("a death while a snapshot is received")

    def all_dying_by_power(self, nodes: Sequence["SimNode"]) -> None:
        """All machines are about to go dark together."""
        if 2 * sum(node.record.oracle.has_unsynced for node in nodes) > len(nodes):
            self.saw("the power of all goes while a majority writes")

    def woke(self, node: "SimNode", slept: bool, newest: Term) -> None:
        """A process that stood still goes on; `slept`: its machine was suspended. `newest`: the last leader's term."""
        process = node.process
        if process is None or not node.record.leads or newest <= node.record.leads:
            return
        if not slept:
            self.saw("a leader that stood still while another one was elected")
        elif process.replica.raft.configuration.lease_reads:
            self.saw("a leader with a lease that slept while another one was elected")

    def stopped(self, node: "SimNode", process: "Process", error: DEngineError) -> None:
        """A process ends by itself."""
        if isinstance(error, NotMemberError) and node.record.led == process.replica.raft.term:
            self.saw("a leader that stops when its removal is committed")

    def deposed(self, node: "SimNode") -> None:
        """A leader leads no more."""
        if node.disk.trouble.hanging:
            self.saw("a leader that steps down while its disk hangs")

    # --- logs -----------------------------------------------------------------------------------------------

    def entry_made(self, entry: Entry) -> None:
        """An entry stands in a log for the first time."""
        if entry.kind is not EntryKind.COMMANDS:
            return
        groups = decode_groups(entry.data, entry.count, ENTRY_HEADER_BYTES)
        for group in groups:
            if not group.session:
                continue
            known = self._groups.setdefault((group.session, group.number), (entry.index, entry.term))
            if known[0] < entry.index:
                self._repeated(known, entry)
        if len(groups) > 1:
            self._look_for_rivals(groups)

    def _repeated(self, known: tuple[LogIndex, Term], entry: Entry) -> None:
        self.saw("a group that stands in the log twice")
        if known[1] != entry.term:
            self.saw("a group that stands in the log twice, in different terms")
        if known[0] <= self.newest_snapshot:
            self.saw("a group that stands in the log twice, once behind a snapshot")

    def _look_for_rivals(self, groups: Sequence[Group]) -> None:
        swapped: dict[bytes, bool] = {}
        for group in groups:
            for command in group.commands:
                if command[:1] == _SWAP:
                    known = decode_command(command)
                    if isinstance(known, CompareAndSwap):
                        if known.key in swapped:
                            self.saw("two swaps of one key in one entry")
                        swapped[known.key] = True

    def replaced(self, record: "NodeRecord", index: LogIndex, having: int, voters: int) -> None:
        """The node's log from `index` on is about to be replaced by another; `having` of the voters had that entry."""
        self.saw("a suffix that is replaced")
        if record.log.last_index - index + 1 >= LONG_SUFFIX:
            self.saw("a long suffix that is replaced")
        if record.log.last_index - index + 1 >= VERY_LONG_SUFFIX:
            self.saw("ten thousand entries that are replaced by others")
        if having * 2 > voters:
            self.saw("an entry that a majority had, and that is replaced")

    def begun_anew(self, record: "NodeRecord") -> None:
        """The node's log is about to be replaced by a snapshot."""
        if record.log.last_index - record.commit_index >= VERY_LONG_SUFFIX:
            self.saw("ten thousand entries that are replaced by a snapshot")

    def committed(self, first_term: Term, own_term: Term) -> None:
        """A leader commits up to an entry of its own term."""
        if first_term < own_term:
            self.saw("entries of earlier terms, committed under one of the leader's own")

    def configured(self, configuration: Configuration) -> None:
        """A configuration stands in a log for the first time."""
        if configuration.outgoing:
            self.saw("a joint configuration")
            if not set(configuration.voters) & set(configuration.outgoing):
                self.saw("a joint configuration of two sets that share nobody")

    def voted(self, configuration: Configuration, node: int) -> None:
        """A vote was given by a node that has this configuration."""
        if node not in configuration.all_voters:
            self.saw("a vote of one that does not know that it is a voter")
