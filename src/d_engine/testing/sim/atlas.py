"""The fault atlas: what was done to whom, so that damage stays within what must be survived.

A crash, a cut, a slow disk heal. A disk that loses what had been acknowledged does not: only a minority may suffer
that, and only once every member counts. The atlas also knows which ends of a process are explained by what was done to
it; any other is a violation (I13).
"""

from collections.abc import Mapping

from d_engine.format.errors import (
    CorruptionError,
    DEngineError,
    DiskError,
    DiskFullError,
    IncarnationMismatchError,
    NotMemberError,
    UnknownFormatError,
)
from d_engine.format.ids import Incarnation, NodeId
from d_engine.testing.sim.node import SimNode


class Atlas:
    """The state of harm of all nodes."""

    def __init__(self, nodes: Mapping[NodeId, SimNode]) -> None:
        self.damaged: dict[NodeId, bool] = {}
        """Nodes whose disk lost what it had: a minority."""
        self.troubled: dict[NodeId, bool] = {}
        """Nodes whose disk has said no: they may stop."""
        self.lost: dict[NodeId, bool] = {}
        """Nodes that cannot come back with what their disk holds."""
        self.joining: dict[NodeId, tuple[int, Incarnation]] = {}
        """Nodes that were started to join, in this life and with this data directory."""
        self.moving: dict[NodeId, bool] = {}
        """Nodes whose new address is not everybody's yet."""
        self.dies_by_power: dict[NodeId, bool] = {}
        """Whether a death in a disk operation takes the whole machine."""
        self._down: dict[NodeId, int] = {}
        self._nodes = nodes

    def may_damage(self, node: NodeId) -> bool:
        """Whether this node's disk may lose what it has acknowledged."""
        others = sum(1 for other in self.damaged if other != node)
        return (others + 1) * 2 < len(self._nodes) and self._is_grown_up() and self.is_spare(node)

    def _is_grown_up(self) -> bool:
        """Every member's disk says which disk each member has. Until then a member with an empty disk is not told from
        one that begins, and two such may found another cluster: none can be spared."""
        return all(node.record.knows_all_disks for node in self._nodes.values() if node.id not in self.lost)

    def is_spare(self, node: NodeId) -> bool:
        """Without it, the voters whose disks are whole are still a majority, whatever change is under way."""
        known = [each.process.replica.raft for each in self._nodes.values() if each.process is not None]
        harmed = {node: True, **self.damaged, **self.lost}
        return all(
            len([voter for voter in half if voter not in harmed]) * 2 > len(half)
            for raft in known
            for configuration in (raft.configuration, raft.committed_configuration)
            for half in (configuration.voters, configuration.outgoing)
            if half
        )

    def begin_anew(self, node: NodeId) -> None:
        """The machine has an empty disk and is nobody's member."""
        for what in (self.damaged, self.troubled, self.lost):
            what.pop(node, None)

    def _is_gone(self, node: NodeId) -> bool:
        """It is no member by the newest committed configuration, and not because it is only about to become one."""
        safety = self._nodes[node].shared.safety
        if safety.roster.newest is None or safety.roster.newest.member(node) is not None:
            return False
        joining = self.joining.get(node)
        return joining is None or (node, joining[1]) in safety.roster.were_members

    def hold_down(self, node: NodeId) -> None:
        """It must not start until `let_up` was called as often."""
        self._down[node] = self._down.get(node, 0) + 1

    def let_up(self, node: NodeId) -> None:
        """The opposite of one `hold_down`."""
        self._down[node] -= 1

    def may_start(self, node: NodeId) -> bool:
        """Nothing holds it down, and there is something to start from."""
        return not self._down.get(node) and node not in self.lost

    def heal(self) -> None:
        """Nothing holds anybody down any more."""
        self._down.clear()

    def explains(self, node: NodeId, error: DEngineError) -> str:
        """Why it is right that the node stopped with this error; "" if it is not. Notes what is lost."""
        if isinstance(error, CorruptionError | UnknownFormatError) and node in self.damaged:
            self.lost[node] = True
            return "node found its damage"
        if isinstance(error, DiskError | DiskFullError) and node in self.troubled:
            return "node stopped for its disk"
        if isinstance(error, NotMemberError | IncarnationMismatchError):
            if self._is_gone(node):
                self.lost[node] = True
                return "node learned that it is no member"
            if any(removed == node for removed, _ in self._nodes[node].shared.safety.roster.removed):
                # Whoever asked for it to be added did so once more. It is about to learn that, and stops all the same.
                self.lost[node] = True
                return "node learned that it was removed, and was added again"
            if self._nodes[node].shared.safety.roster.may_be_removed(node):
                return "node learned that its removal is under way"
        if isinstance(error, IncarnationMismatchError) and node in self.damaged:
            self.lost[node] = True
            return "node learned that its disk was wiped"
        return ""
