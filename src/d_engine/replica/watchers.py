"""The watchers of a node: whose they are, how much each was sent and has not taken yet, and who may be sent more."""

from typing import Protocol

from d_engine.format.errors import DEngineError, InvalidRequestError, WatchLimitError
from d_engine.kv.events import Event
from d_engine.kv.watching import Selection
from d_engine.replica.settings import WatchSettings
from d_engine.replica.watch_index import WatchIndex


class WatchOwner(Protocol):
    """Who opened watches, under numbers of its own: a connection, or a loop of the application. Called from within a
    turn; it may close watches, and must do nothing else.

    `events`: with these, all events up to `revision` were told. Those of a higher revision are not all yet: the others
    come with the next message. `progress`: these watches were told all events up to `revision`. `ended`: the watch is
    over.
    """

    def events(self, number: int, revision: int, events: list[Event]) -> None: ...

    def progress(self, numbers: list[int], revision: int) -> None: ...

    def ended(self, number: int, error: DEngineError) -> None: ...


class Watcher:
    """One watch. `after`: the revision behind which events are wanted. `revision`: up to where all was told, kept while
    it is not live. `number`: the next write to look at, while it is not live. `in_flight`: what was sent and not taken.
    """

    __slots__ = ("account", "after", "closed", "in_flight", "live", "name", "number", "revision", "selection")

    def __init__(self, account: "Account", name: int, selection: Selection, after: int) -> None:
        self.account = account
        self.name = name
        self.selection = selection
        self.after = self.revision = after
        self.number = 0
        self.in_flight = 0
        self.live = True
        self.closed = False


class Account:
    """An owner's watchers by the owner's numbers, what is under way to it, and who waits until it has taken some."""

    __slots__ = ("in_flight", "owner", "stalled", "watchers")

    def __init__(self, owner: WatchOwner) -> None:
        self.owner = owner
        self.watchers: dict[int, Watcher] = {}
        self.stalled: dict[Watcher, None] = {}
        self.in_flight = 0


class Watchers:
    """All of them. `behind` are those that can go on; of those that cannot, their accounts know."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self.count = 0
        self.index: WatchIndex[Watcher] = WatchIndex()
        self.behind: dict[Watcher, None] = {}
        self.halfway: dict[Watcher, None] = {}
        """Who was told a part of a revision."""
        self._accounts: dict[WatchOwner, Account] = {}

    def add(self, owner: WatchOwner, name: int, selection: Selection, after: int) -> Watcher:
        """Raises `WatchLimitError`, `InvalidRequestError`."""
        settings, account = self._settings, self._accounts.get(owner)
        own = 0 if account is None else len(account.watchers)
        if account is not None and name in account.watchers:
            raise InvalidRequestError(f"there is a watch of number {name} already")
        if own >= settings.max_per_owner:
            raise WatchLimitError(
                f"this client has {own} watches on the node, as many as it may (limits.max_watches_per_client)"
            )
        if self.count >= settings.max_watches:
            raise WatchLimitError(
                f"the node has {self.count} watches, as many as it may (limits.max_watches)"
            )
        if account is None:
            account = self._accounts[owner] = Account(owner)
        watcher = account.watchers[name] = Watcher(account, name, selection, after)
        self.count += 1
        self.index.add(watcher)
        return watcher

    def find(self, owner: WatchOwner, name: int) -> Watcher | None:
        """The owner's watch of this number, unless it has ended."""
        account = self._accounts.get(owner)
        return None if account is None else account.watchers.get(name)

    def of(self, owner: WatchOwner) -> list[Watcher]:
        """All of the owner's."""
        account = self._accounts.get(owner)
        return [] if account is None else list(account.watchers.values())

    def all(self) -> list[Watcher]:
        """Everybody's."""
        return [watcher for account in self._accounts.values() for watcher in account.watchers.values()]

    @property
    def stalled(self) -> int:
        """How many wait until their owner has taken some of what it was sent."""
        return sum(len(account.stalled) for account in self._accounts.values())

    def has_room(self, watcher: Watcher) -> bool:
        """Whether more may be sent to it."""
        settings = self._settings
        return watcher.in_flight < settings.window_bytes and watcher.account.in_flight < settings.owner_bytes

    def send(self, watcher: Watcher, revision: int, events: list[Event], size: int) -> None:
        """Tell it these; with them it was told everything up to `revision`."""
        account = watcher.account
        watcher.in_flight += size
        account.in_flight += size
        watcher.revision = max(watcher.revision, revision)
        if events and events[-1].revision > revision:
            self.halfway[watcher] = None
        else:
            self.halfway.pop(watcher, None)
        account.owner.events(watcher.name, watcher.revision, events)

    def stall(self, watcher: Watcher) -> None:
        """It goes on when its owner has taken some."""
        watcher.account.stalled[watcher] = None

    def took(self, watcher: Watcher, size: int) -> None:
        """Its owner has taken so much of what was sent."""
        account, size = watcher.account, min(size, watcher.in_flight)
        watcher.in_flight -= size
        if watcher in account.stalled and self.has_room(watcher):
            del account.stalled[watcher]
            self.behind[watcher] = None
        self._relieve(account, size)

    def progress(self, watchers: list[Watcher], revision: int) -> None:
        """Tell these that they were told everything up to `revision`."""
        by_account: dict[Account, list[int]] = {}
        for watcher in watchers:
            self.halfway.pop(watcher, None)
            by_account.setdefault(watcher.account, []).append(watcher.name)
        for account, names in by_account.items():
            account.owner.progress(names, revision)

    def remove(self, watcher: Watcher) -> None:
        """It is over."""
        account = watcher.account
        watcher.closed = True
        self.index.remove(watcher)
        del account.watchers[watcher.name]
        for where in (account.stalled, self.behind, self.halfway):
            where.pop(watcher, None)
        self.count -= 1
        self._relieve(account, watcher.in_flight)
        if not account.watchers:
            del self._accounts[account.owner]

    def _relieve(self, account: Account, size: int) -> None:
        limit = self._settings.owner_bytes
        full = account.in_flight >= limit
        account.in_flight -= size
        if full and account.in_flight < limit:
            self.behind.update(account.stalled)
            account.stalled.clear()
