"""Who belongs to the cluster in truth: by the newest committed configuration, whoever knows it."""

from collections.abc import Callable, Iterator

from d_engine.format.configuration import Configuration
from d_engine.format.ids import Incarnation, LogIndex, NodeId, Term


class Roster:
    """All configurations of a run. `logs` returns those of each node's log, by rising index."""

    def __init__(self, logs: Callable[[], list[list[tuple[LogIndex, Configuration]]]]) -> None:
        self.newest: Configuration | None = None
        """The newest that is committed."""
        self.were_members: dict[tuple[NodeId, Incarnation], bool] = {}
        self.removed: dict[tuple[NodeId, Incarnation], bool] = {}
        self._logs = logs
        self._index: LogIndex = 0
        self._known: dict[tuple[LogIndex, Term], Configuration] = {}

    def appended(self, index: LogIndex, term: Term, configuration: Configuration) -> None:
        """Some log has it there."""
        self._known[index, term] = configuration

    def committed(self, index: LogIndex, term: Term) -> None:
        """The next entry, of whatever kind, is committed."""
        self._index = index
        configuration = self._known.get((index, term))
        if configuration is None:
            return
        before, self.newest = self.newest, configuration
        for member in () if before is None else before.members:
            if configuration.member(member.id) is None:
                self.removed[member.id, member.incarnation] = True
        for member in configuration.members:
            self.were_members[member.id, member.incarnation] = True

    def may_be_members(self) -> list[NodeId]:
        """Members by the newest committed configuration, or by one that some log has behind it."""
        found = [] if self.newest is None else [member.id for member in self.newest.members]
        for configuration in self._not_committed():
            found += [member.id for member in configuration.members]
        return found

    def may_be_removed(self, node: NodeId) -> bool:
        """By a configuration that some log has behind the newest committed one."""
        return any(configuration.member(node) is None for configuration in self._not_committed())

    def _not_committed(self) -> Iterator[Configuration]:
        for log in self._logs():
            for index, configuration in log:
                if index > self._index:
                    yield configuration
