"""A snapshot that was fetched becomes the state, a step at a time, while the node follows its leader.

    read       a piece of the state at each step, beside the state that is still served
    become     at one step, all at once: the state, the sessions, the core, the log
    let go     of the state before, a little at each step

After each turn with a step comes a pause, as with everything that is done about snapshots. Until `become` nothing has
changed, and it can be given up. The file bears its name already: a restart in the middle comes to the same end.
"""

from collections.abc import Callable, Iterator

from d_engine.format.ids import Nanoseconds
from d_engine.format.state_machine import Replacement
from d_engine.replica.applier import Applier
from d_engine.replica.settings import SnapshotSettings
from d_engine.storage.snapshots import SnapshotFile

_STEPS_OF_LETTING_GO = 8
_OVER = object()


class Installation:
    """One file on its way."""

    def __init__(
        self,
        file: SnapshotFile,
        settings: SnapshotSettings,
        applier: Applier,
        become: Callable[[SnapshotFile, Replacement, Nanoseconds], Iterator[None]],
    ) -> None:
        """`become` makes the file the state."""
        self.file = file
        self.reading = True
        """Nothing has changed yet."""
        self.over = False
        self.deadline: Nanoseconds = 0
        """When the next step is due."""
        self._pause = settings.pause_ns
        self._become = become
        self._now: Nanoseconds = 0
        self._steps = self._all_steps(applier)

    def run(self, now: Nanoseconds) -> bool:
        """The next step, if it is due. True if there is more to do at once. Raises what the state machine raises."""
        if now >= self.deadline:
            self._now = now
            self.deadline = now + self._pause
            self.over = next(self._steps, _OVER) is _OVER
        return self.over or not self._pause

    def _all_steps(self, applier: Applier) -> Iterator[None]:
        replacement = yield from applier.restoring(self.file)
        self.reading = False
        for step, _ in enumerate(self._become(self.file, replacement, self._now)):
            if step % _STEPS_OF_LETTING_GO == 0:
                yield
