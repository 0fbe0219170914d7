"""What lasts, and is all that happens: whatever the engine does about it has time to show, and to go wrong.

Each of these faults is alone in its world while it is in force, so that what it demands can be demanded exactly: who
leads, in which term, after how many rounds. A profile of their own has them, with clients that leave time between what
they do.
"""

from random import Random
from typing import TYPE_CHECKING

from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.faults import FAULTS, NotNow, Undo, cut_between, fault
from d_engine.testing.sim.log_faults import append_alone, append_at_once
from d_engine.testing.sim.sightings import VERY_LONG_SUFFIX
from d_engine.testing.sim.snapshot_faults import ask_snapshot
from d_engine.testing.sim.violations import InvariantBroken

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World

_ELECTIONS = 10
_SETTLED: Nanoseconds = 3 * SECOND
_CATCH_UP: Nanoseconds = 40 * SECOND
"""Windows may be drawn so small that a follower gets one entry a round trip."""
_LOGS_KEPT = 0.2
"""How often nobody asks for snapshots."""
_EVENTS_LEFT = 2500
"""If all faults are healed before others lead, the entries stay; with small windows they would take minutes."""
_SPARE_ROUNDS = 3
"""The probe with which a leader begins, one that was under way when the connection came, and one for the snapshot."""


def _stand_alone(world: "World") -> Undo:
    """No other fault begins until this is undone. Raises `NotNow` if one is in force."""
    if world.in_force or world.alone:
        raise NotNow
    world.alone = True

    def end() -> None:
        world.alone = False

    return end


def _newest_term(world: "World") -> int:
    return max(record.term for record in world.shared.safety.records.values())


def _leader_among(world: "World") -> NodeId:
    """0 if nobody leads."""
    try:
        return world.leader()
    except NotNow:
        return 0


@fault("lasting_chain", least=30 * SECOND)
def _lasting_chain(world: "World", rng: Random) -> Undo:
    """Each outer node reaches one of the inner ones only, for very long: with three nodes and with five these are the
    shapes in which engines were seen to elect for ever. After ten election time-outs somebody leads, and from then on
    nobody else ever does."""
    size = len(world.ids)
    end_alone = _stand_alone(world)
    try:
        mend = FAULTS["chain_of_partial"](world, rng)
    except NotNow:
        end_alone()
        raise
    settled: list[tuple[NodeId, int]] = []
    over = False

    def look() -> None:
        if not over:
            settled.append((_leader_among(world), _newest_term(world)))
            if not settled[0][0]:
                raise InvariantBroken("I12", f"nobody leads {size} nodes that reach each other in part")

    def end() -> None:
        nonlocal over
        over = True
        if settled:
            now = (_leader_among(world), _newest_term(world))
            if now != settled[0]:
                text = f"(leader, term) was {settled[0]} after ten election time-outs, and is {now} now"
                raise InvariantBroken("I12", f"{size} nodes reach each other in part: {text}")
            world.shared.safety.sightings.saw(
                f"{size} nodes that reach each other in part, and one that leads"
            )
        mend()
        end_alone()

    world.events.after(_ELECTIONS * world.script.features.election_max, look)
    return end


def _follows(world: "World", node: NodeId, leader: NodeId) -> bool:
    """It has heard this leader lately."""
    machine = world.nodes[node]
    if machine.process is None:
        return False
    raft = machine.process.replica.raft
    return raft.leader == leader and raft.is_led(machine.clocks.boot(world.events.now))


@fault("alone_for_long", least=20 * SECOND)
def _alone_for_long(world: "World", rng: Random) -> Undo:
    """A follower is alone for very long. When it comes back the same node leads on, in the same term."""
    leader = world.leader()
    others = [node for node in world.ids if node != leader]
    if len(others) < 2 or not all(_follows(world, node, leader) for node in others):
        raise NotNow
    end_alone = _stand_alone(world)
    node = rng.choice(others)
    mend = cut_between(world, [node], [other for other in world.ids if other != node])
    term = _newest_term(world)
    begun = world.events.now

    def come_back() -> None:
        mend()
        if world.events.now - begun < 20 * SECOND:
            end_alone()
        else:
            world.events.after(_SETTLED, look)

    def look() -> None:
        now = (_leader_among(world), _newest_term(world))
        if now != (leader, term):
            text = f"{leader} led in term {term}, and after that (leader, term) is {now}"
            raise InvariantBroken("I12", f"node {node} came back after long: {text}")
        world.shared.safety.sightings.saw("a node that is back after long, and deposes nobody")
        end_alone()

    return come_back


@fault("very_long_suffix", least=8 * SECOND)
def _very_long_suffix(world: "World", rng: Random) -> Undo:
    """A leader is cut off with ten thousand entries that nobody else has. Others lead on and cut their logs, as far as
    their settings let them; it has cut its own. When it is back it takes over theirs, in a round for each term that the
    logs have, at most."""
    leader = world.leader()
    others = [node for node in world.ids if node != leader]
    if len(others) < 2 or world.script.steps - world.events.count < _EVENTS_LEFT:
        raise NotNow
    end_alone = _stand_alone(world)
    mend = cut_between(world, [leader], others)
    ask_snapshot(world, world.nodes[leader])
    append_at_once(world, leader, VERY_LONG_SUFFIX)

    cuts = rng.random() > _LOGS_KEPT

    def go_on() -> None:
        for other in others:
            if cuts:
                ask_snapshot(world, world.nodes[other])
            append_alone(world, other, 1)

    for second in range(3, 8):
        world.events.after(second * SECOND, go_on)

    def come_back() -> None:
        mend()
        _Convergence(world, leader, end_alone)

    return come_back


class _Convergence:
    """From when the node is back until it has what the others have."""

    def __init__(self, world: "World", node: NodeId, over: Undo) -> None:
        self._world = world
        self._safety = world.shared.safety
        self._node = node
        self._over = over
        self._record = self._safety.records[node]
        self._refused = self._record.refused
        self._goal = len(self._safety.committed)
        self._terms = len({*self._record.log.terms, *(term for term, _ in self._safety.committed)})
        self._until = world.events.now + _CATCH_UP
        self._look()

    def _look(self) -> None:
        world, record = self._world, self._record
        rounds = record.refused - self._refused
        if rounds > self._terms + _SPARE_ROUNDS:
            text = f"{rounds} rounds and no end; the logs have {self._terms} terms"
            raise InvariantBroken(
                "I12", f"node {self._node} and its leader do not find where their logs part: {text}"
            )
        if record.applied_index >= self._goal:
            self._over()
        elif world.events.now > self._until:
            text = f"has {record.log}, has applied {record.applied_index}, committed are {self._goal}"
            raise InvariantBroken("I12", f"node {self._node} does not catch up: {text}")
        else:
            world.events.after(200 * MILLISECOND, self._look)
