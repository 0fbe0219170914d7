"""Watches on one node: how events come from the history to those whom they concern (docs/design/watches.md).

A watcher is a cursor into the event history. Most of the time all cursors stand at its end, together: such a watcher is
*live*, and costs nothing for a write that does not concern it. After each batch that was applied, the new writes are
looked up in an index, once, and whoever is concerned gets the events, one message for the batch.

A watcher that was sent as much as its window holds, and has not said that it took some of it, is sent nothing more and
keeps nothing here: it is *behind*, with a cursor of its own, and goes on from the history when there is room. So does
one that begins in the past. Who has caught up is live again. If the history no longer reaches back to a cursor, the
watch ends with an error that says up to where it was true: never with a silent gap.

A turn looks at a bounded number of writes. A revision may have more than that, or more than a window holds: then its
events come in several messages.
"""

from collections.abc import Callable

from d_engine.format.errors import CompactedError, DEngineError, InvalidRequestError, WatchLaggedError
from d_engine.format.ids import Nanoseconds
from d_engine.format.state_machine import StateMachine
from d_engine.kv.events import Event, event_of
from d_engine.kv.history import History, Part, Span, Watchable
from d_engine.kv.watching import Selection, weigh
from d_engine.replica.settings import WatchSettings
from d_engine.replica.watchers import Watcher, Watchers, WatchOwner


class Watches:
    """All watches of a node, on its thread. `wake` asks for a turn, in which `run` is called."""

    def __init__(
        self,
        settings: WatchSettings,
        machine: StateMachine,
        now: Callable[[], Nanoseconds],
        wake: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.watchers = Watchers(settings)
        self.lagged = 0
        self.compacted = 0
        self.deadline: Nanoseconds | None = None
        self._history: History | None = None
        if isinstance(machine, Watchable):
            self._history = machine.history
            self._history.limit_bytes = settings.history_bytes
        self._now = now
        self._wake = wake
        self._number = 0
        self._revision = 0
        """What live watchers were told."""

    # --- for owners --------------------------------------------------------------------------------------------------

    def open(self, owner: WatchOwner, number: int, selection: Selection, since: int | None) -> int:
        """Watch, from behind revision `since` (None: from now) on; one in the future is waited for. Returns the
        revision from which on all is told. Raises `WatchLimitError`, `CompactedError`, `InvalidRequestError`; then
        there is no watch."""
        history = self._history
        if history is None:
            raise InvalidRequestError("the state machine of this node cannot be watched: it keeps no history")
        if since is not None and since < history.oldest:
            self.compacted += 1
            raise _compacted(history, since)
        if not self.watchers.count:
            # While nobody watches nothing is handed over: the first one begins at the end.
            self._number, self._revision = history.number, history.newest
        watcher = self.watchers.add(owner, number, selection, history.newest if since is None else since)
        if watcher.after < history.newest:
            watcher.number = history.number_after(watcher.after)
            if watcher.number < self._number:
                watcher.live = False
                self.watchers.behind[watcher] = None
        if self.deadline is None:
            self.deadline = self._now() + self.settings.progress_ns
        self._wake()
        return watcher.after

    def take(self, owner: WatchOwner, number: int, size: int) -> None:
        """The watcher has taken so much of what it was sent (`weigh`). Of a watch that has ended it means nothing."""
        watcher = self.watchers.find(owner, number)
        if watcher is not None:
            self.watchers.took(watcher, size)
            if self.watchers.behind:
                self._wake()

    def ask_progress(self, owner: WatchOwner, number: int) -> None:
        """Tell the watch how far it is true. One that is behind is told by the events that it gets."""
        watcher = self.watchers.find(owner, number)
        if watcher is not None and watcher.live:
            owner.progress([number], max(self._revision, watcher.after))

    def close(self, owner: WatchOwner, number: int | None = None) -> None:
        """The watch is not wanted any more; without a number, none of the owner's is."""
        if number is None:
            for watcher in self.watchers.of(owner):
                self.watchers.remove(watcher)
        elif (found := self.watchers.find(owner, number)) is not None:
            self.watchers.remove(found)

    # --- for the replica ---------------------------------------------------------------------------------------------

    @property
    def span(self) -> Span:
        """What the history holds."""
        return Span(0, 0, 0, 0.0) if self._history is None else self._history.span

    def run(self, now: Nanoseconds) -> bool:
        """Once a turn, when what is committed was applied. True if there is more to do at once."""
        history, watchers = self._history, self.watchers
        if history is None or not watchers.count:
            self.deadline = None
            return False
        budget = self.settings.slice_writes
        if self._number < history.number:
            budget -= self._hand_over(history, budget)
        if watchers.behind:
            # However much is written, who is behind gets on.
            self._catch_up(history, max(budget, self.settings.slice_writes // 4))
        if self.deadline is not None and now >= self.deadline:
            watchers.progress([watcher for watcher in watchers.all() if watcher.live], self._revision)
            self.deadline = now + self.settings.progress_ns
        return self._number < history.number or bool(watchers.behind)

    def fail(self, error: DEngineError) -> None:
        """The node stops: every watch ends with this error."""
        for watcher in self.watchers.all():
            self._end(watcher, error)

    # --- those that are live -----------------------------------------------------------------------------------------

    def _hand_over(self, history: History, budget: int) -> int:
        """What is new goes to those whom it concerns. Returns how many writes were looked at."""
        if self._number < history.first_number:
            self._lose(history)
        done = 0
        while done < budget and self._number < history.number:
            part = history.read(self._number, budget - done)
            done += len(part.writes)
            self._match(part)
            self._number, self._revision = part.number, part.revision
            if part.complete and self.watchers.halfway:
                halfway = [watcher for watcher in self.watchers.halfway if watcher.live]
                self.watchers.progress(halfway, self._revision)
        return done

    def _match(self, part: Part) -> None:
        watchers = self.watchers
        concerned: dict[Watcher, list[Event]] = {}
        for write in watchers.index.candidates(part.writes):
            revision = write[0].mod_revision
            events: dict[bool, Event] = {}
            for watcher in watchers.index.find(write[0].key):
                selection = watcher.selection
                if not watcher.live or revision <= watcher.after or not selection.wants(write):
                    continue
                event = events.get(selection.previous)
                if event is None:
                    event = events[selection.previous] = event_of(write, selection.previous)
                told = concerned.get(watcher)
                if told is None:
                    concerned[watcher] = [event]
                else:
                    told.append(event)
        for watcher, told in concerned.items():
            size = sum(map(weigh, told))
            if watchers.has_room(watcher) and size <= self.settings.window_bytes:
                watchers.send(watcher, part.revision, told, size)
            else:
                self._fall_behind(watcher)

    def _fall_behind(self, watcher: Watcher) -> None:
        """It was told what lies before the present part, and nothing of that."""
        watcher.live = False
        watcher.number = self._number
        watcher.revision = max(watcher.revision, self._revision)
        self.watchers.behind[watcher] = None

    def _lose(self, history: History) -> None:
        """What the live ones wait for is gone before they saw it: the state was replaced, or the history is too short
        for what is written in a turn."""
        for watcher in self.watchers.all():
            if watcher.live and max(watcher.after, self._revision) < history.oldest:
                self._fall_behind(watcher)
        self._number, self._revision = history.first_number, max(self._revision, history.oldest)

    # --- those that are behind ---------------------------------------------------------------------------------------

    def _catch_up(self, history: History, budget: int) -> None:
        """Work for each of them in turn, as long as there is some left; who had none is the first next time."""
        behind = self.watchers.behind
        for watcher in list(behind):
            if budget <= 0:
                break
            del behind[watcher]
            budget -= 1 + self._go_on(watcher, history, budget)

    def _go_on(self, watcher: Watcher, history: History, budget: int) -> int:
        done = 0
        while done < budget:
            if watcher.closed:
                return done
            if watcher.number < history.first_number:
                self._end(watcher, self._gone(watcher, history))
                return done
            if watcher.number >= self._number:
                watcher.live = True
                self.watchers.progress([watcher], max(self._revision, watcher.after))
                return done
            if not self.watchers.has_room(watcher):
                self.watchers.stall(watcher)
                return done
            part = history.read(watcher.number, min(budget - done, self._number - watcher.number))
            done += self._pass_on(watcher, part)
        if not watcher.closed:
            self.watchers.behind[watcher] = None
        return done

    def _pass_on(self, watcher: Watcher, part: Part) -> int:
        """Send of the part what fills the window. Returns how many writes were looked at."""
        selection, window = watcher.selection, self.settings.window_bytes
        events: list[Event] = []
        size = looked_at = 0
        for write in part.writes:
            if size >= window:
                break
            looked_at += 1
            key, revision = write[0].key, write[0].mod_revision
            if selection.has(key) and selection.wants(write) and revision > watcher.after:
                event = event_of(write, selection.previous)
                size += weigh(event)
                events.append(event)
        revision = part.revision
        if looked_at < len(part.writes):
            last = part.writes[looked_at - 1][0].mod_revision
            revision = last if part.writes[looked_at][0].mod_revision > last else last - 1
        watcher.number += looked_at
        # Who waits for the rest of a revision is told that there is none.
        if events or (watcher in self.watchers.halfway and revision > watcher.revision):
            self.watchers.send(watcher, revision, events, size)
        else:
            watcher.revision = max(watcher.revision, revision)
        return looked_at

    def _gone(self, watcher: Watcher, history: History) -> DEngineError:
        if watcher.number < history.began:
            self.compacted += 1
            return _compacted(history, watcher.revision)
        self.lagged += 1
        return WatchLaggedError(
            f"the watch of {watcher.selection.start!r} took its events too slowly: those behind revision "
            f"{watcher.revision} are not kept any more",
            watcher.revision,
        )

    def _end(self, watcher: Watcher, error: DEngineError) -> None:
        self.watchers.remove(watcher)
        watcher.account.owner.ended(watcher.name, error)


def _compacted(history: History, since: int) -> CompactedError:
    return CompactedError(
        f"the events behind revision {since} are not kept here any more; they begin behind revision {history.oldest}",
        history.oldest,
    )
