"""Majorities, as pure arithmetic (Raft, 5.2 and 5.4; joint consensus: dissertation, 4.3).

A decision needs a majority of the voters; while the configuration is joint it needs one of the outgoing voters too.
Two decisions therefore always share a node, whichever configurations of one step they were taken in.

A voter counts only if it is *bound*: the configuration names the incarnation of the data directory that made its
promises. A voter with incarnation 0 counts in the size of the set and never as a yes, so that a node which came up
with an empty disk cannot help to decide what its predecessor had promised otherwise. For the same reason a voter that
has shown another incarnation than the configuration names does not count, this node itself included: who was removed
and added again with an empty disk reads in the old part of the log of a voter of its number, and that is not it. Before
the cluster is born (cluster id 0) no promise is older than the bootstrap configuration, and all voters count.
"""

from collections.abc import Mapping
from enum import Enum

from d_engine.format.configuration import Configuration
from d_engine.format.ids import Incarnation, NodeId


class Ballot(Enum):
    """How a vote stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


class Electorate:
    """Who decides under one configuration."""

    __slots__ = ("_halves", "bound", "configuration")

    def __init__(
        self, configuration: Configuration, shown: Mapping[NodeId, Incarnation] | None = None
    ) -> None:
        """`shown` are the incarnations that nodes have presented."""
        self.configuration = configuration
        shown = shown or {}
        halves = (configuration.voters, configuration.outgoing)
        self._halves = tuple(half for half in halves if half)
        unborn = configuration.cluster_id == 0
        self.bound = tuple(
            member.id
            for member in configuration.members
            if configuration.is_voter(member.id)
            and (unborn or member.incarnation == shown.get(member.id, member.incarnation) != 0)
        )
        """The voters whose yes counts, by rising id."""

    def reached(self, values: Mapping[NodeId, int]) -> int:
        """The highest value that a majority of each half has reached. A node that is not named stands at 0."""
        bound, lowest = self.bound, None
        for half in self._halves:
            # A loop and not a comprehension, which would be a call: this is asked several times for each batch.
            standing = []
            for voter in half:
                standing.append(values.get(voter, 0) if voter in bound else 0)
            standing.sort()
            reached = standing[(len(standing) - 1) // 2]
            lowest = reached if lowest is None or reached < lowest else lowest
        return 0 if lowest is None else lowest

    def tally(self, votes: Mapping[NodeId, bool]) -> Ballot:
        """Won if each half has a majority of yes; lost if one of them cannot get it any more."""
        if not self._halves:
            return Ballot.LOST
        results = [self._tally_in(half, votes) for half in self._halves]
        if Ballot.LOST in results:
            return Ballot.LOST
        return Ballot.PENDING if Ballot.PENDING in results else Ballot.WON

    def _tally_in(self, half: tuple[NodeId, ...], votes: Mapping[NodeId, bool]) -> Ballot:
        needed = len(half) // 2 + 1
        yes = sum(voter in self.bound and votes.get(voter, False) for voter in half)
        if yes >= needed:
            return Ballot.WON
        possible = sum(voter in self.bound and votes.get(voter, True) for voter in half)
        return Ballot.PENDING if possible >= needed else Ballot.LOST

    def is_sole(self, node_id: NodeId) -> bool:
        """True if this node alone decides everything."""
        return self._halves == ((node_id,),) and node_id in self.bound
