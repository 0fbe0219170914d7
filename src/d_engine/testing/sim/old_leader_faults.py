"""Leaders that are leaders no more and do not know it: what reads and leases must be proof against.

A leader that is cut off goes on for up to a maximal election time-out. Meanwhile others elect the next one and write.
Whatever makes the old one believe that it is still followed (an answer that comes late, a lease that nobody keeps)
makes its readers see the past.
"""

from random import Random
from typing import TYPE_CHECKING

from d_engine.format.ids import NodeId
from d_engine.format.messages import PeerMessage, TimeoutNow
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.faults import NotNow, Undo, cut, cut_between, fault, several
from d_engine.testing.sim.machine_faults import transfer_leadership

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World


def _leader_and_others(world: "World", least: int) -> tuple[NodeId, list[NodeId]]:
    leader = world.leader()
    others = [node for node in world.ids if node != leader]
    if len(others) < least:
        raise NotNow
    return leader, others


@fault("late_answers", least=2 * SECOND)
def _late_answers(world: "World", rng: Random) -> Undo:
    """The leader is cut off, and what the others had answered before comes when they may have another leader."""
    leader, others = _leader_and_others(world, 2)
    wires, settings = world.fabric.wires, world.nodes[leader].settings
    clogged = dict.fromkeys(others, True)
    for other in others:
        wires.clog(other, leader)
    undos: list[Undo] = []

    def cut_off() -> None:
        if not world.healing:
            undos.extend(cut(world, leader, other) for other in others)

    def let_through(other: NodeId) -> None:
        if clogged.pop(other, False):
            wires.unclog(other, leader)

    def end() -> None:
        for other in others:
            let_through(other)
        several(undos)()

    world.events.after(rng.randrange(100 * MILLISECOND), cut_off)
    for other in others:
        late = rng.randrange(settings.election_min_ns, settings.election_max_ns)
        world.events.after(late, let_through, other)
    return end


@fault("loyalty_tried", least=2 * SECOND)
def _loyalty_tried(world: "World", rng: Random) -> Undo:
    """A follower that has not heard its leader for long is about to campaign when the leader is cut off: nobody may
    help it before the leader's lease is over, not even who has just been started again."""
    leader, others = _leader_and_others(world, 2)
    deaf = rng.choice(others)
    loyal = [node for node in others if node != deaf]
    forgetful = rng.random() < 0.5
    undos = [cut(world, leader, deaf)]

    def strike() -> None:
        if world.healing:
            return
        undos.append(cut_between(world, [leader], others))
        for node in loyal if forgetful else ():
            world.nodes[node].kill()
            world.events.after(rng.randrange(1, 50) * MILLISECOND, world.start, node)

    longest = world.nodes[leader].settings.election_max_ns
    world.events.after(rng.randrange(longest // 4, longest), strike)
    return lambda: several(undos)()


@fault("transfer_and_isolate", least=2 * SECOND)
def _transfer_and_isolate(world: "World", rng: Random) -> Undo:
    """The leader hears nobody any more from the moment at which it tells another one to lead."""
    fabric = world.fabric
    leader, others = _leader_and_others(world, 2)
    if fabric.spy is not None:
        raise NotNow
    transfer_leadership(world, rng)
    undos: list[Undo] = []

    def seen(message: PeerMessage) -> bool:
        if isinstance(message, TimeoutNow):
            fabric.spy = None
            undos.extend(cut(world, other, leader) for other in others)
        return False

    def end() -> None:
        if fabric.spy is seen:
            fabric.spy = None
        several(undos)()

    fabric.spy = seen
    return end
