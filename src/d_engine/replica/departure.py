"""How a member notices that it was removed: by applying the configuration that no longer has it."""

from d_engine.format.configuration import Configuration
from d_engine.format.errors import NotMemberError
from d_engine.format.ids import Incarnation, LogIndex
from d_engine.raft.core import Raft


class Departure:
    """One node's, under its incarnation."""

    def __init__(self, raft: Raft, incarnation: Incarnation) -> None:
        self._raft = raft
        self._incarnation = incarnation
        self.removed_at: LogIndex = 0
        """Where the log says so; 0 if it does not."""

    def configured(self, index: LogIndex, before: Configuration | None, after: Configuration) -> None:
        """The members that are applied have changed."""
        own = self._raft.node_id
        earlier = None if before is None else before.member(own)
        # Under this id there may have been another data directory, which is none of this node's business.
        if earlier is not None and earlier.incarnation == self._incarnation and not after.member(own):
            self.removed_at = index

    def stop_if_removed(self) -> None:
        """Last of all, so that a leader that removed itself has answered, and has told another one to lead. Raises
        `NotMemberError`."""
        if self.removed_at and self._raft.configuration.member(self._raft.node_id) is None:
            raise NotMemberError(
                f"node {self._raft.node_id} was removed from the cluster (log index {self.removed_at}); "
                "to use this machine again, start it on an empty directory and add it as a new member"
            )
