"""States that become different from the others', as by a bit that flips in memory.

Whoever is connected to such a node sees what is wrong, until it finds out at the next marker; no engine can help that.
So the clients leave it for as long as its state is wrong, and what the others see is held to everything as always.
"""

from random import Random
from typing import TYPE_CHECKING

from d_engine.testing.sim.events import MILLISECOND
from d_engine.testing.sim.faults import NotNow, Undo, fault, nothing

_LOOK_AGAIN = 20 * MILLISECOND

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World


@fault("diverge")
def _diverge(world: "World", rng: Random) -> Undo:
    """A node's state machine is changed behind everybody's back; the leader's as likely as not."""
    node = world.nodes[world.leader() if rng.random() < 0.5 else rng.choice(world.ids)]
    process = node.process
    if process is None or not world.atlas.may_damage(node.id) or not process.machine.diverge():
        raise NotNow
    world.atlas.damaged[node.id] = True
    world.shared.safety.majorities.damaged = True
    world.fleet.leave(node.id)

    def look() -> None:
        process = node.process
        if process is None or process.machine.diverged:
            world.events.after(_LOOK_AGAIN, look)
        else:
            world.trace.count("diverge: over")
            world.fleet.come_back(node.id)

    look()
    return nothing
