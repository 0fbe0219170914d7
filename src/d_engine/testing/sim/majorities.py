"""Configurations and their majorities (I9): who may lead, who may change the members, what may be committed.

All of it is read off the disks: a vote or an entry counts if it is on the platter of whoever is said to have it. The
majorities of two configurations that follow each other in a log overlap; a leader was voted for by majorities of the
configuration in its log; it changes the members only when the configuration before, and something of its own term, is
on majorities' disks.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING

from d_engine.format.configuration import Configuration
from d_engine.format.ids import LogIndex, NodeId, Term
from d_engine.testing.sim.violations import InvariantBroken

if TYPE_CHECKING:
    from d_engine.testing.sim.safety import NodeRecord


class Majorities:
    """The cluster begins with the configuration `first`."""

    def __init__(self, first: Configuration, records: "Mapping[NodeId, NodeRecord]") -> None:
        self.first = first
        self.damaged = False
        """A disk that had acknowledged was lost: what is durable need not be where it was."""
        self._records = records

    def having(self, voters: tuple[NodeId, ...], index: LogIndex, term: Term | None) -> list[NodeId]:
        """Those of the voters that have the entry on their disks."""
        return [node for node in voters if self._has_durably(node, index, term)]

    def check_election(self, record: "NodeRecord", term: Term) -> None:
        """Majorities of the configuration in the leader's log have voted for it."""
        own = record.log.base + 1 + bisect_left(record.log.terms, term)
        known = [each for each in record.configurations if each[0] < own]
        place, configuration = known[-1] if known else (0, self.first)
        allowed = [configuration]
        if place > record.commit_index:
            # Who is a voter no more by a change that it does not know to be committed may lead it to its end. The one
            # before is committed: else nobody would have made this one.
            allowed.append(known[-2][1] if len(known) > 1 else self.first)
        if not any(record.node in each.all_voters for each in allowed):
            raise InvariantBroken(
                "I9", f"node {record.node} leads in term {term} and is no voter of {configuration}"
            )
        for voters in (configuration.voters, configuration.outgoing):
            for_it = [node for node in voters if self._records[node].voted_for(record.node, term)]
            if voters and len(for_it) * 2 <= len(voters) and not self.damaged:
                raise InvariantBroken(
                    "I9",
                    f"node {record.node} leads in term {term}, and of {voters} only {for_it} voted for it",
                )

    def check_succession(self, before: Configuration | None, after: Configuration) -> None:
        """Two configurations that follow each other in a log: their majorities overlap."""
        if before is None or not before.voters:
            return
        stays = before.voters == after.voters and after.outgoing in (before.outgoing, ())
        enters = not before.joint and after.outgoing == before.voters
        if not stays and not enters:
            raise InvariantBroken("I9", f"{before} is followed by {after}: majorities need not overlap")

    def check_change(self, record: "NodeRecord", index: LogIndex) -> None:
        """A leader changes the members: the configuration before is committed, and so is an entry of its own term
        (https://groups.google.com/g/raft-dev/c/t4xj6dJTP6E: the flaw of single-server changes)."""
        log = record.log
        term = log.terms[-1]
        place, before = record.configurations[-1]
        own = log.base + 1 + bisect_left(log.terms, term)
        if self.damaged:
            return
        for needed in (place, own):
            for voters in (before.voters, before.outgoing):
                having = self.having(voters, needed, log.term_at(needed))
                if voters and (len(having) * 2 <= len(voters) or needed >= index):
                    raise InvariantBroken(
                        "I9",
                        f"node {record.node} changes the members at {index} in term {term}, but of {voters} only "
                        f"{having} have {needed}@{log.term_at(needed)}",
                    )

    def check_in_force(self, record: "NodeRecord", configuration: Configuration) -> None:
        """The node goes by the newest configuration of its log. (The first takes effect when it is applied.)"""
        record.in_force = configuration
        own = record.configuration
        if own is None or len(record.configurations) == 1:
            return
        if (own.voters, own.outgoing, own.learners) != (
            configuration.voters,
            configuration.outgoing,
            configuration.learners,
        ):
            raise InvariantBroken(
                "I9", f"node {record.node} goes by {configuration}, the newest in its log is {own}"
            )

    def check_commit(self, record: "NodeRecord", commit: LogIndex, configuration: Configuration) -> None:
        """The leader commits: majorities have it (I5)."""
        if self.damaged:
            return
        term = record.log.term_at(commit)
        for voters in (configuration.voters, configuration.outgoing):
            having = self.having(voters, commit, term)
            if voters and len(having) * 2 <= len(voters):
                raise InvariantBroken(
                    "I5",
                    f"node {record.node} commits {commit}@{term}, but of {voters} only {having} have it on disk",
                )

    def _has_durably(self, node: NodeId, index: LogIndex, term: Term | None) -> bool:
        record = self._records.get(node)
        if record is None:
            return False
        durable = record.oracle.durable
        return durable.term_at(index) == term or index <= durable.base
