"""Snapshots at moments that no rule of size would choose."""

from random import Random
from typing import TYPE_CHECKING

from d_engine.format.errors import DEngineError, UnavailableError
from d_engine.storage.snapshot_format import SnapshotHeader
from d_engine.testing.sim.events import SECOND
from d_engine.testing.sim.faults import NotNow, Undo, cut_between, fault, nothing
from d_engine.testing.sim.node import SimNode

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World


def ask_snapshot(world: "World", node: SimNode) -> None:
    """The node is asked to take one now."""

    def done(header: SnapshotHeader | None, error: DEngineError | None) -> None:
        world.trace.count(f"snapshot: asked for, {'done' if error is None else error.code}")

    def ask() -> None:
        if node.process is not None and node.process.replica.error is None:
            try:
                node.process.replica.snapshot(done)
            except UnavailableError as error:
                done(None, error)

    node.enter(node.life, ask)


@fault("snapshot_one")
def _snapshot_one(world: "World", rng: Random) -> Undo:
    """An operator asks for one."""
    nodes = [node for node in world.nodes.values() if node.alive]
    if not nodes:
        raise NotNow
    ask_snapshot(world, rng.choice(nodes))
    return nothing


@fault("snapshot_all")
def _snapshot_all(world: "World", rng: Random) -> Undo:
    """All nodes at once, twice: logs become as short as they may."""
    for node in world.nodes.values():
        ask_snapshot(world, node)
        world.events.after(rng.randrange(SECOND), ask_snapshot, world, node)
    return nothing


@fault("left_behind", least=2 * SECOND)
def _left_behind(world: "World", rng: Random) -> Undo:
    """A node hears nothing, and the others' logs are cut behind it: it can only come back with a snapshot."""
    node = rng.choice(world.ids)
    others = [other for other in world.ids if other != node]
    if not others:
        raise NotNow
    undo = cut_between(world, [node], others)
    for other in others:
        for _ in range(4):
            world.events.after(rng.randrange(2 * SECOND), ask_snapshot, world, world.nodes[other])
    return undo


@fault("spoiled_chunk")
def _spoiled_chunk(world: "World", rng: Random) -> Undo:
    """The next parts of snapshots arrive with a bit flipped, as no checksum of a connection would let them."""
    world.fabric.wires.to_spoil = rng.choice((1, 3))
    return nothing
