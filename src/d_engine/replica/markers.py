"""Markers: how replicas find out that one of them has become different (architecture, section 11).

In equal intervals of log time the leader logs a *marker*, an entry that does nothing. Whoever applies it knows what his
digest of everything up to there is (`d_engine.replica.digest`), and tells every other member; so each member judges for
itself, whoever leads by then, and nobody's verdict needs to be believed.

    a majority of the voters agrees          who differs from it is wrong, be it this node, or the leader
    no majority agrees, nor can any more     nobody knows who is right: an alarm, and all data is kept
    otherwise                                wait: reports are missing

A report that gets lost costs nothing: what differs at one marker differs at all later ones. If at the next marker some
voters differ and still no majority has agreed on the one before, that is an alarm too.
"""

from d_engine.format.entry import EntryKind
from d_engine.format.hello import Channel
from d_engine.format.ids import LogIndex, Nanoseconds, NodeId
from d_engine.format.messages import DigestReport
from d_engine.raft.core import Raft
from d_engine.raft.membership import words_of
from d_engine.raft.quorum import Ballot, Electorate
from d_engine.replica.ports import Network

KEPT = 16
"""Markers that are remembered of each member, the newest."""


class Markers:
    """One node's digests, those that it was told, and what follows from both."""

    def __init__(self, raft: Raft, network: Network, interval: Nanoseconds) -> None:
        self.count = 0
        """Markers applied."""
        self.agreed_index: LogIndex = 0
        """The newest marker at which a majority of the voters had the same digest, this node's own."""
        self.alarm = ""
        """The voters differ and no majority agrees: who has what. Empty if that is not so."""
        self.differs_at: LogIndex = 0
        """The newest marker at which this node's digest is not that of an agreeing majority; 0 if there is none."""
        self.deadline: Nanoseconds | None = None
        """When the next marker is due, on a leader."""
        self._raft = raft
        self._network = network
        self._interval = interval
        self._own: dict[LogIndex, bytes] = {}
        self._told: dict[NodeId, dict[LogIndex, bytes]] = {}
        self._unreported: DigestReport | None = None
        self._news = False
        self._last: Nanoseconds = 0
        """Log time of the newest marker that is in the log, as far as this node knows."""

    # --- what happens ------------------------------------------------------------------------------------------------

    def applied(self, index: LogIndex, log_time: Nanoseconds, digest: bytes) -> None:
        """A marker was applied."""
        self.count += 1
        self._last = max(self._last, log_time)
        _remember(self._own, index, digest)
        self._unreported = DigestReport(index, digest)
        self._news = True

    def reported(self, sender: NodeId, report: DigestReport) -> None:
        """A member tells its digest."""
        if self._raft.configuration.member(sender) is not None:
            _remember(self._told.setdefault(sender, {}), report.index, report.digest)
            self._news = True

    def forget(self) -> None:
        """This node's state was replaced: what its digest was, is no more."""
        self._own.clear()
        self._unreported = None
        self.differs_at = 0

    # --- once a turn -------------------------------------------------------------------------------------------------

    def propose(self, log_time: Nanoseconds, now: Nanoseconds) -> None:
        """On a leader: log a marker if it is time."""
        self.deadline = None
        raft = self._raft
        if not raft.ready or not raft.accepts_proposals or len(raft.configuration.members) < 2:
            return
        left = self._last + self._interval - log_time
        if left <= 0:
            raft.propose((), 0, log_time, now, EntryKind.MARKER)
            self._last, left = log_time, self._interval
        self.deadline = now + left

    def compare(self) -> None:
        """Tell the newest digest, and judge what is known if there is something new."""
        if self._unreported is not None:
            for member in self._raft.configuration.members:
                if member.id != self._raft.node_id:
                    self._network.send(member.id, Channel.CONTROL, self._unreported)
            self._unreported = None
        if self._news:
            self._news = False
            self._judge()

    def _judge(self) -> None:
        configuration = self._raft.configuration
        electorate, members = Electorate(configuration), [member.id for member in configuration.members]
        self._told = {node: told for node, told in self._told.items() if node in members}
        for place, index in enumerate(sorted(self._own, reverse=True)):
            digests = {node: told[index] for node, told in self._told.items() if index in told}
            digests[self._raft.node_id] = self._own[index]
            values = sorted(set(digests.values()))
            ballots = {
                value: electorate.tally({node: digest == value for node, digest in digests.items()})
                for value in values
            }
            for value, ballot in ballots.items():
                if ballot is Ballot.WON:
                    self._agreed(index, value)
                    return
            hopeless = all(ballot is Ballot.LOST for ballot in ballots.values())
            if len(values) > 1 and (hopeless or place):
                self.alarm = _describe(index, digests)
                return

    def _agreed(self, index: LogIndex, value: bytes) -> None:
        self.alarm = ""
        if self._own[index] == value:
            self.agreed_index = index
        else:
            self.differs_at = index


def _remember(known: dict[LogIndex, bytes], index: LogIndex, digest: bytes) -> None:
    known[index] = digest
    if len(known) > KEPT:
        del known[min(known)]


def _describe(index: LogIndex, digests: dict[NodeId, bytes]) -> str:
    groups: dict[bytes, list[NodeId]] = {}
    for node, digest in sorted(digests.items()):
        groups.setdefault(digest, []).append(node)
    sides = "; ".join(f"{words_of(nodes)}: {digest.hex()[:8]}" for digest, nodes in groups.items())
    return f"the replicas' digests differ at log index {index}, and no majority agrees ({sides})"
