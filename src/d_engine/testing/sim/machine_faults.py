"""Faults of machines: crashes, disks, clocks, clients, and leadership that is moved about."""

from random import Random
from typing import TYPE_CHECKING

from d_engine.format.configuration import Member
from d_engine.format.ids import NodeId
from d_engine.format.messages import AppendResponse, MemberChange, PeerMessage, VoteRequest, VoteResponse
from d_engine.replica.changer import TRANSFER
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.faults import NotNow, Undo, cut_between, fault, nothing, several
from d_engine.testing.sim.node import SimNode

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World

MAX_DRIFT = 100_000
"""Parts per million that a clock may run fast or slow."""
_HOUR = 3600 * SECOND


def _running(world: "World", rng: Random) -> SimNode:
    nodes = [node for node in world.nodes.values() if node.alive]
    if not nodes:
        raise NotNow
    return rng.choice(nodes)


# --- crashes ------------------------------------------------------------------------------------------------


def _crash(world: "World", nodes: list[NodeId], power: bool) -> Undo:
    """The nodes go down together, and come back when it is over."""
    if power and len(nodes) == len(world.ids):
        world.shared.safety.sightings.all_dying_by_power([world.nodes[node] for node in nodes])
    for node in nodes:
        machine = world.nodes[node]
        world.atlas.hold_down(node)
        if power:
            machine.lose_power()
        else:
            machine.kill()
    return several([lambda node=node: world.let_up(node) for node in nodes])  # type: ignore[misc]


def _majority(world: "World", rng: Random) -> list[NodeId]:
    return rng.sample(world.ids, len(world.ids) // 2 + 1)


@fault("kill_one")
def _kill_one(world: "World", rng: Random) -> Undo:
    return _crash(world, [_running(world, rng).id], power=False)


@fault("kill_leader")
def _kill_leader(world: "World", rng: Random) -> Undo:
    return _crash(world, [world.leader()], power=False)


@fault("kill_majority")
def _kill_majority(world: "World", rng: Random) -> Undo:
    return _crash(world, _majority(world, rng), power=False)


@fault("kill_all")
def _kill_all(world: "World", rng: Random) -> Undo:
    return _crash(world, world.ids, power=False)


@fault("power_one")
def _power_one(world: "World", rng: Random) -> Undo:
    return _crash(world, [_running(world, rng).id], power=True)


@fault("power_majority")
def _power_majority(world: "World", rng: Random) -> Undo:
    return _crash(world, _majority(world, rng), power=True)


@fault("power_all")
def _power_all(world: "World", rng: Random) -> Undo:
    return _crash(world, world.ids, power=True)


def _is_promise(message: PeerMessage) -> bool:
    return isinstance(message, VoteRequest | VoteResponse | AppendResponse)


def _after_promise(world: "World", rng: Random, power: bool) -> Undo:
    """All go down right after a vote or an acknowledgement has left."""
    undos: list[Undo] = []
    left = rng.randrange(1, 4)

    def seen(message: PeerMessage) -> bool:
        nonlocal left
        if _is_promise(message):
            left -= 1
            if not left:
                world.fabric.spy = None
                world.events.after(0, down, isinstance(message, AppendResponse))
        return False

    def down(acknowledged: bool) -> None:
        if not world.healing:
            what = "an acknowledgement" if acknowledged else "a vote"
            world.trace.count(f"crash: all, right after {what}")
            undos.append(_crash(world, world.ids, power))

    def undo() -> None:
        world.fabric.spy = None
        for each in undos:
            each()

    world.fabric.spy = seen
    return undo


@fault("kill_all_after_promise")
def _kill_all_after_promise(world: "World", rng: Random) -> Undo:
    return _after_promise(world, rng, power=False)


@fault("power_all_after_promise")
def _power_all_after_promise(world: "World", rng: Random) -> Undo:
    return _after_promise(world, rng, power=True)


def _die_in_operation(world: "World", rng: Random, power: bool) -> Undo:
    """A process dies between two operations of its disk; as likely as not while it recovers from a death."""
    node = _running(world, rng)
    world.atlas.dies_by_power[node.id] = power
    recovering = rng.random() < 0.5
    undo = nothing
    if recovering:
        undo = _crash(world, [node.id], power)
    node.disk.trouble.die_after = rng.randrange(12 if recovering else 40)
    return undo


@fault("die_in_disk_operation")
def _die_in_disk_operation(world: "World", rng: Random) -> Undo:
    return _die_in_operation(world, rng, power=False)


@fault("power_in_disk_operation")
def _power_in_disk_operation(world: "World", rng: Random) -> Undo:
    return _die_in_operation(world, rng, power=True)


# --- disks --------------------------------------------------------------------------------------------------


@fault("slow_disk")
def _slow_disk(world: "World", rng: Random) -> Undo:
    node = world.nodes[rng.choice(world.ids)]
    sync = rng.choice((10, 100)) * world.script.features.sync + 10 * MILLISECOND
    return world.overlays.put(node.disk.timing, sync=min(sync, 2 * SECOND))


def _hang(world: "World", node: SimNode) -> Undo:
    """Nothing that is asked of the disk ends."""
    over = world.overlays.put(node.disk.trouble, hanging=True)

    def undo() -> None:
        over()
        node.disk.go_on()

    return undo


@fault("hang_disk")
def _hang_disk(world: "World", rng: Random) -> Undo:
    return _hang(world, world.nodes[rng.choice(world.ids)])


@fault("hang_leader_disk", least=8 * SECOND)
def _hang_leader_disk(world: "World", rng: Random) -> Undo:
    return _hang(world, world.nodes[world.leader()])


@fault("sync_error")
def _sync_error(world: "World", rng: Random) -> Undo:
    """One sync fails; the next would succeed, if anybody dared."""
    node = _running(world, rng)
    node.disk.trouble.fail_syncs = 1
    world.atlas.troubled[node.id] = True
    return nothing


@fault("write_error")
def _write_error(world: "World", rng: Random) -> Undo:
    node = _running(world, rng)
    node.disk.trouble.fail_writes = 1
    world.atlas.troubled[node.id] = True
    return nothing


@fault("full_disk")
def _full_disk(world: "World", rng: Random) -> Undo:
    nodes = [world.nodes[node] for node in (world.ids if rng.random() < 0.2 else [rng.choice(world.ids)])]
    undos: list[Undo] = []
    for node in nodes:
        copies = rng.random() < 0.5
        undos.append(world.overlays.put(node.disk.trouble, full=True, copy_on_write=copies))
        world.atlas.troubled[node.id] = True
    return several(undos)


@fault("bit_rot")
def _bit_rot(world: "World", rng: Random) -> Undo:
    node = world.nodes[rng.choice(world.ids)]
    if not world.atlas.may_damage(node.id) or not node.disk.rot(rng.choice((1, 3, 30))):
        raise NotNow
    world.atlas.damaged[node.id] = True
    return nothing


# --- clocks and pauses --------------------------------------------------------------------------------------


@fault("pause")
def _pause(world: "World", rng: Random) -> Undo:
    _running(world, rng).stand_still(rng.randrange(10 * MILLISECOND, 4 * SECOND))
    return nothing


@fault("pause_leader")
def _pause_leader(world: "World", rng: Random) -> Undo:
    world.nodes[world.leader()].stand_still(rng.randrange(200 * MILLISECOND, 4 * SECOND))
    return nothing


@fault("suspend")
def _suspend(world: "World", rng: Random) -> Undo:
    """The virtual machine sleeps: monotonic time stands, boot time does not."""
    node = world.nodes[world.leader()] if rng.random() < 0.6 else _running(world, rng)
    node.stand_still(rng.randrange(100 * MILLISECOND, 8 * SECOND), suspended=True)
    return nothing


@fault("stall_long")
def _stall_long(world: "World", rng: Random) -> Undo:
    """The loop is blocked for twice an election time-out."""
    node = world.nodes[world.leader()] if rng.random() < 0.6 else _running(world, rng)
    node.stand_still(2 * node.settings.election_max_ns)
    return nothing


@fault("hold_up")
def _hold_up(world: "World", rng: Random) -> Undo:
    """In the middle of whatever the process does next, time passes."""
    node = world.nodes[world.leader()] if rng.random() < 0.6 else _running(world, rng)
    node.held_up = rng.randrange(10 * MILLISECOND, 3 * SECOND)
    return nothing


@fault("drift")
def _drift(world: "World", rng: Random) -> Undo:
    """Boot time of one node, or of all, runs fast or slow; within what leases allow for if there are any."""
    limit = MAX_DRIFT // 2 if world.script.features.lease_reads else MAX_DRIFT
    for node in world.ids if rng.random() < 0.3 else [rng.choice(world.ids)]:
        world.nodes[node].clocks.drift(world.events.now, rng.randrange(-limit, limit + 1))
    return nothing


@fault("wall_jump")
def _wall_jump(world: "World", rng: Random) -> Undo:
    nodes = world.ids if rng.random() < 0.3 else [rng.choice(world.ids)]
    world.trace.count(f"clock: {'all walls jump' if nodes is world.ids else 'a wall jumps'}")
    for node in nodes:
        world.nodes[node].clocks.set_wall(rng.choice((-_HOUR, _HOUR)))
    return nothing


@fault("wall_rate")
def _wall_rate(world: "World", rng: Random) -> Undo:
    nodes = world.ids if rng.random() < 0.3 else [rng.choice(world.ids)]
    world.trace.count(f"clock: {'all walls run' if nodes is world.ids else 'a wall runs'} at another rate")
    for node in nodes:
        world.nodes[node].clocks.drift_wall(
            world.events.now, rng.choice((1_000_000, -500_000, -1_000_000, 0))
        )
    return nothing


# --- leadership ---------------------------------------------------------------------------------------------


def transfer_leadership(world: "World", rng: Random) -> NodeId:
    """Somebody asks for another leader. Returns who is to lead."""
    leader = world.leader()
    others = [node for node in world.ids if node != leader]
    if not others:
        raise NotNow
    to = rng.choice(others)
    asked = world.nodes[rng.choice((leader, to))]
    ended = world.counting("transfer")
    asked.enter(asked.life, asked.ask_change, (MemberChange(TRANSFER, Member(to)),), False, ended)
    return to


@fault("transfer")
def _transfer(world: "World", rng: Random) -> Undo:
    transfer_leadership(world, rng)
    return nothing


@fault("transfer_and_crash")
def _transfer_and_crash(world: "World", rng: Random) -> Undo:
    """Whoever is to lead dies, or hears nothing, at about the moment when it is told."""
    to = transfer_leadership(world, rng)
    undos: list[Undo] = []

    def strike() -> None:
        if world.healing:
            return
        for machine in world.nodes.values():
            if machine.process is not None:
                world.shared.safety.sightings.transfer_disturbed(machine.process, to)
        if rng.random() < 0.5:
            undos.append(_crash(world, [to], power=False))
        else:
            undos.append(cut_between(world, [to], [node for node in world.ids if node != to]))

    world.events.after(rng.randrange(20 * MILLISECOND), strike)
    return several(undos)


# --- clients ------------------------------------------------------------------------------------------------


@fault("client_cut")
def _client_cut(world: "World", rng: Random) -> Undo:
    """A remote client cannot reach some nodes."""
    paths = world.fleet.remote_paths()
    if not paths:
        raise NotNow
    path = rng.choice(paths)
    chosen = rng.sample(world.ids, rng.randrange(1, len(world.ids) + 1))
    for node in chosen:
        path.network.cut_off[node] = path.network.cut_off.get(node, 0) + 1

    def undo() -> None:
        for node in chosen:
            path.network.cut_off[node] -= 1

    return undo


@fault("client_lossy")
def _client_lossy(world: "World", rng: Random) -> Undo:
    paths = world.fleet.remote_paths()
    if not paths:
        raise NotNow
    return world.overlays.put(rng.choice(paths).quality, loss=0.3)


@fault("client_reset")
def _client_reset(world: "World", rng: Random) -> Undo:
    """A remote client's connections break."""
    paths = world.fleet.remote_paths()
    if not paths:
        raise NotNow
    rng.choice(paths).network.reset()
    return nothing


@fault("client_crash")
def _client_crash(world: "World", rng: Random) -> Undo:
    world.fleet.crash_one(rng)
    return nothing


@fault("burst")
def _burst(world: "World", rng: Random) -> Undo:
    """A client writes ten times as much as anybody wants."""
    world.fleet.burst(rng)
    return nothing
