"""Logs that part: entries that one leader has alone, and what becomes of them under the next ones."""

from bisect import bisect_left
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from d_engine.format.errors import DEngineError
from d_engine.format.ids import NodeId, Term
from d_engine.format.messages import AppendRequest, PeerMessage
from d_engine.raft.effects import Role
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.replica import Replica
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.faults import NotNow, Undo, cut_between, fault, nothing, several

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World

_TIMEOUT = 2 * SECOND


def _ignore(outcome: GroupOutcome) -> None:
    """Nobody waits for it."""


def append_alone(world: "World", node: NodeId, count: int) -> None:
    """The node is given so many groups, an entry for each if its loop turns between them."""
    machine = world.nodes[node]

    def give(life: int, left: int) -> None:
        process = machine.process
        if process is None or machine.life != life or not left:
            return
        try:
            process.replica.open_session(_TIMEOUT, _ignore)
        except DEngineError:
            return
        world.events.after(3 * MILLISECOND, machine.enter, life, give, life, left - 1)

    machine.enter(machine.life, give, machine.life, count)


def append_at_once(world: "World", node: NodeId, count: int) -> None:
    """The node is given so many groups, with a turn of its loop, and so an entry, for each, in no time."""
    machine = world.nodes[node]

    def ask(replica: Replica) -> None:
        with suppress(DEngineError):
            replica.open_session(_TIMEOUT, _ignore)

    def give(life: int, left: int) -> None:
        process = machine.process
        if process is None or machine.life != life or process.replica.raft.role is not Role.LEADER:
            return
        left -= process.host.hurry(partial(ask, process.replica), left)
        if left:
            world.events.after(MILLISECOND, machine.enter, life, give, life, left)

    machine.enter(machine.life, give, machine.life, count)


@fault("divergent_suffix", least=2 * SECOND)
def _divergent_suffix(world: "World", rng: Random) -> Undo:
    """A leader is alone with many entries; meanwhile others lead, and it has to give them up."""
    leader = world.leader()
    others = [node for node in world.ids if node != leader]
    if len(others) < 2:
        raise NotNow
    undo = cut_between(world, [leader], others)
    append_alone(world, leader, rng.choice((5, 30, 60)))
    return undo


@fault("figure_eight", least=12 * SECOND)
def _figure_eight(world: "World", rng: Random) -> Undo:
    """Figure 8 of the Raft paper, with three nodes: an entry of an old term comes onto a majority under a new leader
    that then falls silent, and another one, whose log ends in a term between, leads and replaces it."""
    leader = world.leader()
    if len(world.ids) != 3 or world.fabric.spy is not None:
        raise NotNow
    return _FigureEight(world, leader).end


class _FigureEight:
    """`first` is alone with entries of its term. `second` is elected and alone from its first append on. `first` is
    elected again, and gives the third node its old entries, but none of its new term. Then it is alone, and `second`
    meets the third node."""

    def __init__(self, world: "World", first: NodeId) -> None:
        self._world = world
        self._records = world.shared.safety.records
        self._first = first
        self._second = self._third = first
        self._term: Term = self._records[first].term
        self._undo: Undo = nothing
        self._watches = True
        self._separate([first])
        append_alone(world, first, 3)
        world.fabric.spy = self._spy

    def end(self) -> None:
        """It is over, however far it came."""
        self._watches = False
        self._world.fabric.spy = None
        self._undo()

    def _separate(self, alone: list[NodeId]) -> None:
        self._undo()
        ids = self._world.ids
        undos = [
            cut_between(self._world, [node], [other for other in ids if other != node]) for node in alone
        ]
        self._undo = several(undos)

    def _spy(self, message: PeerMessage) -> bool:
        if not self._watches or not isinstance(message, AppendRequest) or message.term <= self._term:
            return False
        leader = self._world.shared.safety.leaders[message.term]
        if self._second == self._first:
            if leader != self._first:
                self._second = leader
                self._third = next(node for node in self._world.ids if node not in (self._first, leader))
                self._term = message.term
                # The append has not left yet.
                self._separate(self._world.ids)
                self._world.events.after(30 * MILLISECOND, self._meet, self._second)
            return False
        return leader == self._first and self._give_old(message)

    def _give_old(self, message: AppendRequest) -> bool:
        """True for an append that must not come: it has something of the new term that the third node would take."""
        log = self._records[self._first].log
        old = bisect_left(log.terms, message.term) + log.base
        if self._records[self._third].oracle.durable.term_at(old) == log.term_at(old):
            self._watches = False
            self._world.trace.count("figure 8: old entries on a majority")
            self._separate(self._world.ids)
            self._world.events.after(30 * MILLISECOND, self._meet, self._first)
            return True
        new = bool(message.entries) and message.entries[-1].term == message.term
        return new and message.prev_index < old

    def _meet(self, alone: NodeId) -> None:
        """All but this one hear each other again."""
        if self._world.fabric.spy == self._spy:
            self._separate([alone])
