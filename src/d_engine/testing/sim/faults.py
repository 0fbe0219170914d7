"""The catalogue of faults.

A fault is a function of the world and a generator of its own. It does its damage and returns how to undo it (nothing,
if there is nothing to undo), or raises `NotNow` if the world has no place for it. To add one, write such a function
with `@fault` and name it in a profile:

    @fault("reset_connection")
    def _reset(world: World, rng: Random) -> Undo:
        a, b = rng.choice(world.pairs())
        world.fabric.break_connections(a, b)
        return nothing

Each firing is counted under "fault: name". Damage that cannot be undone goes through the *atlas* (`World.may_damage`),
which keeps it within what must be survivable.
"""

from collections.abc import Callable
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.violations import InvariantBroken

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World

Undo: TypeAlias = Callable[[], None]
Fault: TypeAlias = "Callable[[World, Random], Undo]"
FAULTS: dict[str, Fault] = {}


class NotNow(Exception):  # noqa: N818 - no error: the world is not in the state for this fault
    """The fault finds nothing to damage."""


_FAR_BEHIND = 20
"""Entries."""
LEAST_DURATIONS: dict[str, Nanoseconds] = {}


def fault(name: str, least: Nanoseconds = 0) -> Callable[[Fault], Fault]:
    """Add a fault to the catalogue. It lasts as long as the plan says, but at least so long."""

    def add(function: Fault) -> Fault:
        FAULTS[name] = function
        if least:
            LEAST_DURATIONS[name] = least
        return function

    return add


def nothing() -> None:
    """Nothing to undo."""


def several(undos: list[Undo]) -> Undo:
    """Undo all of them."""

    def undo() -> None:
        for each in undos:
            each()

    return undo


# --- partitions ---------------------------------------------------------------------------------------------


def cut_between(world: "World", left: list[NodeId], right: list[NodeId]) -> Undo:
    """Nothing gets through between the two sides."""
    undos: list[Undo] = []
    for a in left:
        for b in right:
            undos += (cut(world, a, b), cut(world, b, a))
    return several(undos)


def cut(world: "World", source: NodeId, to: NodeId) -> Undo:
    """Nothing gets through in this direction."""
    world.fabric.cut(source, to)
    return lambda: world.fabric.mend(source, to)


def _others(world: "World", *nodes: NodeId) -> list[NodeId]:
    found = [node for node in world.ids if node not in nodes]
    if not found:
        raise NotNow
    return found


@fault("isolate_one")
def _isolate_one(world: "World", rng: Random) -> Undo:
    node = rng.choice(world.ids)
    return cut_between(world, [node], _others(world, node))


@fault("isolate_leader")
def _isolate_leader(world: "World", rng: Random) -> Undo:
    leader = world.leader()
    return cut_between(world, [leader], _others(world, leader))


@fault("split")
def _split(world: "World", rng: Random) -> Undo:
    nodes = rng.sample(world.ids, len(world.ids))
    _others(world, nodes[0])
    at = rng.randrange(1, len(nodes))
    return cut_between(world, nodes[:at], nodes[at:])


@fault("cut_pair")
def _cut_pair(world: "World", rng: Random) -> Undo:
    a, b = rng.choice(world.pairs())
    return cut_between(world, [a], [b])


@fault("cut_one_way")
def _cut_one_way(world: "World", rng: Random) -> Undo:
    """To or from some of the others, so that one side hears the other and is not heard."""
    node = rng.choice(world.ids)
    others = _others(world, node)
    chosen = rng.sample(others, rng.randrange(1, len(others) + 1))
    if rng.random() < 0.5:
        return several([cut(world, node, other) for other in chosen])
    return several([cut(world, other, node) for other in chosen])


@fault("ring")
def _ring(world: "World", rng: Random) -> Undo:
    """Everybody reaches two neighbours only."""
    nodes = rng.sample(world.ids, len(world.ids))
    if len(nodes) < 4:
        raise NotNow
    near = {frozenset((nodes[i], nodes[i - 1])) for i in range(len(nodes))}
    undos = [cut_between(world, [a], [b]) for a, b in combinations(nodes, 2) if frozenset((a, b)) not in near]
    return several(undos)


@fault("bridge")
def _bridge(world: "World", rng: Random) -> Undo:
    """Two halves that share one member."""
    nodes = rng.sample(world.ids, len(world.ids))
    if len(nodes) < 3:
        raise NotNow
    middle = 1 + (len(nodes) - 1) // 2
    return cut_between(world, nodes[1:middle], nodes[middle:])


@fault("chain_of_partial")
def _chain_of_partial(world: "World", rng: Random) -> Undo:
    """A full mesh of the inner nodes; each outer node reaches one of them only."""
    nodes = rng.sample(world.ids, len(world.ids))
    if len(nodes) < 3:
        raise NotNow
    inner = nodes[: len(nodes) // 2 + 1]
    undos: list[Undo] = []
    for number, outer in enumerate(nodes[len(inner) :]):
        friend = inner[(number + 1) % len(inner)]
        undos.append(cut_between(world, [outer], _others(world, outer, friend)))
    return several(undos)


@fault("flapping")
def _flapping(world: "World", rng: Random) -> Undo:
    """A split that comes and goes every 100 ms."""
    nodes = rng.sample(world.ids, len(world.ids))
    _others(world, nodes[0])
    at = rng.randrange(1, len(nodes))
    state: list[Undo | None] = [cut_between(world, nodes[:at], nodes[at:])]
    over = False

    def flip() -> None:
        if over:
            return
        undo = state[0]
        if undo is None:
            state[0] = cut_between(world, nodes[:at], nodes[at:])
        else:
            undo()
            state[0] = None
        world.events.after(100 * MILLISECOND, flip)

    def end() -> None:
        nonlocal over
        over = True
        if state[0] is not None:
            state[0]()

    world.events.after(100 * MILLISECOND, flip)
    return end


@fault("disconnect_and_return", least=15 * SECOND)
def _disconnect_and_return(world: "World", rng: Random) -> Undo:
    """A follower is alone for very long: it must come back without disturbing anybody, in the term in which it left (or
    the next, if it had just won the others' consent to it)."""
    leader = world.leader()
    node = rng.choice(_others(world, leader))
    others = _others(world, node)
    undo = cut_between(world, [node], others)

    def come_back() -> None:
        records = world.shared.safety.records
        newest = max(records[other].oracle.durable.term for other in others)
        if records[node].term > newest + 1:
            raise InvariantBroken(
                "I12",
                f"node {node}, all alone, has come to term {records[node].term}; the others are in {newest}",
            )
        undo()

    return come_back


# --- the quality of links -----------------------------------------------------------------------------------


def _worsen(world: "World", rng: Random, **values: object) -> Undo:
    """All links, or some."""
    links = world.fabric.wires.links()
    if not links:
        raise NotNow
    chosen = links if rng.random() < 0.5 else rng.sample(links, rng.randrange(1, len(links) + 1))
    wires, overlays = world.fabric.wires, world.overlays
    return several([overlays.put(wires.link(source, to).quality, **values) for source, to in chosen])


@fault("lossy")
def _lossy(world: "World", rng: Random) -> Undo:
    return _worsen(world, rng, loss=rng.choice((0.02, 0.1, 0.3)))


@fault("duplicating")
def _duplicating(world: "World", rng: Random) -> Undo:
    return _worsen(world, rng, duplicate=0.5)


@fault("reordering")
def _reordering(world: "World", rng: Random) -> Undo:
    return _worsen(world, rng, reorder=0.3)


@fault("slow_network")
def _slow_network(world: "World", rng: Random) -> Undo:
    """75 ms, give or take 50."""
    return _worsen(world, rng, latency=25 * MILLISECOND, jitter=50 * MILLISECOND)


@fault("narrow_link")
def _narrow_link(world: "World", rng: Random) -> Undo:
    """One member gets its messages at a trickle."""
    node = rng.choice(world.ids)
    others, rate = _others(world, node), rng.choice((1, 1000, 100_000))
    qualities = [world.fabric.wires.link(other, node).quality for other in others]
    undos = [world.overlays.put(quality, bytes_per_second=rate) for quality in qualities]
    safety = world.shared.safety
    begun = len(safety.committed)

    def undo() -> None:
        committed = len(safety.committed)
        if committed - max(begun, safety.records[node].oracle.durable.last_index) >= _FAR_BEHIND:
            safety.sightings.saw("a majority that goes on while a follower gets its messages at a trickle")
        several(undos)()
        for other in others:
            world.fabric.break_connections(other, node)

    return undo


@fault("clog")
def _clog(world: "World", rng: Random) -> Undo:
    """Messages of one direction wait, and come all at once."""
    source, to = rng.choice(world.fabric.wires.links() or _none())
    world.fabric.wires.clog(source, to)
    return lambda: world.fabric.wires.unclog(source, to)


@fault("reset_connection")
def _reset_connection(world: "World", rng: Random) -> Undo:
    """Between two members, all or one in two."""
    a, b = rng.choice(world.pairs())
    world.fabric.break_connections(a, b, rng.choice((0.5, 1.0)))
    return nothing


def _none() -> list[tuple[NodeId, NodeId]]:
    raise NotNow
