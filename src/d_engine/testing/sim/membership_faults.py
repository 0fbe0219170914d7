"""Changes of members while faults come and go, and disks that are replaced.

An operator asks, through any node, for a member to be added, promoted, demoted or removed, or for several of that in
one step. He knows no more than what some node told him, and does not wait for one change before he asks for another. A
machine that was removed gets an empty disk before it is added again.
"""

from random import Random
from typing import TYPE_CHECKING

from d_engine.format.configuration import Configuration, Member
from d_engine.format.ids import NodeId
from d_engine.format.messages import MemberChange
from d_engine.testing.sim.events import SECOND
from d_engine.testing.sim.faults import NotNow, Undo, cut_between, fault, nothing, several

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World


def _known(world: "World") -> Configuration:
    """What a node that is up tells of the members; the one that has committed most knows best."""
    known = world.committed_configuration()
    if not known.voters:
        raise NotNow
    return known


def _send(world: "World", rng: Random, changes: tuple[MemberChange, ...], force: bool) -> None:
    asked = rng.choice([node for node in world.nodes.values() if node.alive])
    kinds = "+".join(change.kind for change in changes)
    asked.enter(asked.life, asked.ask_change, changes, force, world.counting(f"members: {kinds}"))


def _removal(world: "World", node: NodeId) -> MemberChange:
    world.atlas.removed[node] = True
    return MemberChange("remove", Member(node))


@fault("add_member")
def _add_member(world: "World", rng: Random) -> Undo:
    """A machine that is no member, and whose last process has stopped for good, gets an empty disk and asks to join.
    The operator makes sure that no log has a configuration with the machine."""
    members = {member.id for member in _known(world).members}
    for record in world.shared.safety.records.values():
        if record.configurations:
            members.update(member.id for member in record.configurations[-1][1].members)
    outside = [node for node in world.ids if node not in members and node in world.atlas.lost]
    if not outside:
        raise NotNow
    world.begin_anew(rng.choice(outside))
    return nothing


@fault("promote")
def _promote(world: "World", rng: Random) -> Undo:
    known = _known(world)
    if not known.learners:
        raise NotNow
    _send(world, rng, (MemberChange("promote", Member(rng.choice(known.learners))),), rng.random() < 0.3)
    return nothing


@fault("demote")
def _demote(world: "World", rng: Random) -> Undo:
    known = _known(world)
    if len(known.voters) < 2:
        raise NotNow
    _send(world, rng, (MemberChange("demote", Member(rng.choice(known.voters))),), rng.random() < 0.3)
    return nothing


@fault("remove_member")
def _remove_member(world: "World", rng: Random) -> Undo:
    known = _known(world)
    if len(known.voters) < 2:
        raise NotNow
    node = rng.choice(known.members).id
    _send(world, rng, (_removal(world, node),), rng.random() < 0.3)
    return nothing


@fault("remove_leader")
def _remove_leader(world: "World", rng: Random) -> Undo:
    """The leader is asked to remove itself; now and then somebody pulls its plug meanwhile."""
    leader = world.leader()
    if len(_known(world).voters) < 2:
        raise NotNow
    _send(world, rng, (_removal(world, leader),), rng.random() < 0.5)
    undos: list[Undo] = []

    def strike() -> None:
        if not world.healing:
            world.atlas.hold_down(leader)
            world.nodes[leader].kill()
            undos.append(lambda: world.let_up(leader))

    if rng.random() < 0.4:
        world.events.after(rng.randrange(SECOND // 20), strike)
    return several(undos)


@fault("many_changes")
def _many_changes(world: "World", rng: Random) -> Undo:
    """Several voters change in one step: the cluster goes through a joint configuration, perhaps between two sets that
    have nobody in common. Some part of it may be cut off meanwhile, or die."""
    known = _known(world)
    voters, learners = list(known.voters), list(known.learners)
    changes = [MemberChange("promote", Member(node)) for node in learners]
    out = rng.sample(voters, rng.randrange(0, len(voters) + (1 if learners else 0)))
    changes += [
        MemberChange("demote", Member(node)) if rng.random() < 0.7 else _removal(world, node) for node in out
    ]
    if len(changes) < 2:
        raise NotNow
    _send(world, rng, tuple(changes), force=rng.random() < 0.7)
    if rng.random() < 0.3 or len(world.ids) < 2:
        return nothing
    nodes = rng.sample(world.ids, len(world.ids))
    at = rng.randrange(1, len(nodes))
    return cut_between(world, nodes[:at], nodes[at:])


@fault("two_changes")
def _two_changes(world: "World", rng: Random) -> Undo:
    """Two clients ask for different things at the same moment."""
    known = _known(world)
    if len(known.voters) < 3:
        raise NotNow
    a, b = rng.sample(known.voters, 2)
    _send(world, rng, (MemberChange("demote", Member(a)),), force=True)
    _send(world, rng, (_removal(world, b),), force=True)
    return nothing


@fault("wiped_disk")
def _wiped_disk(world: "World", rng: Random) -> Undo:
    """A member comes back with an empty disk under its old number. It must not be let in."""
    known = _known(world)
    members = [member.id for member in known.members if world.atlas.lost.get(member.id) is None]
    if not members:
        raise NotNow
    node = rng.choice(members)
    if not world.atlas.may_damage(node):
        raise NotNow
    world.atlas.damaged[node] = True
    world.shared.safety.damaged = True
    world.nodes[node].wipe()
    return nothing
