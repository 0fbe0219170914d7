"""Changes of members while faults come and go, machines that are replaced, moved, wiped.

An operator asks, through any node, for a member to be added, promoted, demoted, removed, moved, or for several of that
in one step. He knows no more than what some node told him, and does not wait for one change before he asks for
another; told that nobody leads, or that another change is pending, he asks again a few times. A machine gets an empty
disk before it is added again.

Some faults lie in wait: they ask for a step and strike at the moment at which it is in force, or committed.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import ChangePendingError, DEngineError, NoLeaderError
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import MemberChange
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.faults import NotNow, Undo, cut_between, fault, nothing, several

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World

PATIENCE = 6
_LOOK: Nanoseconds = 2 * MILLISECOND
_LYING_IN_WAIT: Nanoseconds = 3 * SECOND


def _known(world: "World") -> Configuration:
    """What a node that is up tells of the members; the one that has committed most knows best."""
    known = world.committed_configuration()
    if not known.voters:
        raise NotNow
    return known


def _send(
    world: "World",
    rng: Random,
    changes: tuple[MemberChange, ...],
    force: bool,
    patience: int = PATIENCE,
) -> None:
    """Ask some node for the step, up to so many times more."""
    count = world.counting("members: " + "+".join(change.kind for change in changes))

    def ask(left: int) -> None:
        if world.healing and patience:
            return
        alive = [node for node in world.nodes.values() if node.alive]
        if not alive:
            ended(left, NoLeaderError("everybody is down"))
            return
        asked = rng.choice(alive)
        if rng.random() < 0.7:
            with suppress(NotNow):
                asked = world.nodes[world.leader()]
        asked.enter(asked.life, asked.ask_change, changes, force, lambda error: ended(left, error))

    def ended(left: int, error: DEngineError | None) -> None:
        if isinstance(error, NoLeaderError | ChangePendingError) and left and not world.healing:
            world.events.after(rng.randrange(20 * MILLISECOND, SECOND), ask, left - 1)
            return
        count(error)

    ask(patience)


def _when(world: "World", condition: Callable[[], bool], strike: Callable[[], None]) -> None:
    """Lie in wait for the moment, for a while."""
    until = world.events.now + _LYING_IN_WAIT

    def look() -> None:
        if world.healing or world.events.now > until:
            return
        if condition():
            strike()
        else:
            world.events.after(_LOOK, look)

    look()


def _in_force(world: "World", condition: Callable[[Configuration], bool], committed: bool = False) -> bool:
    """Whether some running node has such a configuration, or knows it to be committed."""
    for node in world.nodes.values():
        if node.process is not None:
            raft = node.process.replica.raft
            if condition(raft.committed_configuration if committed else raft.configuration):
                return True
    return False


def _kill(world: "World", node: NodeId, undos: list[Undo], power: bool = False) -> None:
    """It goes down until the fault is over."""
    world.atlas.hold_down(node)
    if power:
        world.nodes[node].lose_power()
    else:
        world.nodes[node].kill()
    undos.append(lambda: world.let_up(node))


def _removal(node: NodeId) -> MemberChange:
    return MemberChange("remove", Member(node))


def _promotion(node: NodeId) -> MemberChange:
    return MemberChange("promote", Member(node))


def _demotion(node: NodeId) -> MemberChange:
    return MemberChange("demote", Member(node))


# --- one at a time ------------------------------------------------------------------------------------------


def _outside(world: "World", rng: Random) -> NodeId:
    """A machine that is no member, nor can become one by what was asked. Its last process is gone for good."""
    members = world.shared.safety.roster.may_be_members()
    outside = [node for node in world.ids if node not in members and node in world.atlas.lost]
    if not outside:
        raise NotNow
    return rng.choice(outside)


@fault("add_member")
def _add_member(world: "World", rng: Random) -> Undo:
    """A machine gets an empty disk and asks to join. Others may still have it as another member in their logs."""
    world.begin_anew(_outside(world, rng))
    return nothing


@fault("promote")
def _promote(world: "World", rng: Random) -> Undo:
    learners = _known(world).learners
    if not learners:
        raise NotNow
    chosen = rng.sample(learners, rng.randrange(1, len(learners) + 1))
    _send(world, rng, tuple(_promotion(node) for node in chosen), rng.random() < 0.5)
    return nothing


@fault("demote")
def _demote(world: "World", rng: Random) -> Undo:
    known = _known(world)
    if len(known.voters) < 2:
        raise NotNow
    _send(world, rng, (_demotion(rng.choice(known.voters)),), rng.random() < 0.3)
    return nothing


@fault("remove_member")
def _remove_member(world: "World", rng: Random) -> Undo:
    known = _known(world)
    if len(known.voters) < 2:
        raise NotNow
    _send(world, rng, (_removal(rng.choice(known.members).id),), rng.random() < 0.3)
    return nothing


@fault("two_changes")
def _two_changes(world: "World", rng: Random) -> Undo:
    """Two clients ask for different things at the same moment."""
    known = _known(world)
    if len(known.voters) < 3:
        raise NotNow
    a, b = rng.sample(known.voters, 2)
    _send(world, rng, (_demotion(a),), force=True)
    _send(world, rng, (_removal(b),), force=True)
    return nothing


# --- in the middle of a step --------------------------------------------------------------------------------


@fault("remove_leader")
def _remove_leader(world: "World", rng: Random) -> Undo:
    """The leader is asked to remove itself, and may die when that is in force, or when it is committed."""
    leader = world.leader()
    if len(_known(world).voters) < 2:
        raise NotNow
    _send(world, rng, (_removal(leader),), rng.random() < 0.5)
    undos: list[Undo] = []
    committed, power = rng.random() < 0.5, rng.random() < 0.5

    def strike() -> None:
        world.trace.count(f"members: leader dies, its removal {'committed' if committed else 'in force'}")
        _kill(world, leader, undos, power)

    if rng.random() < 0.7:
        _when(
            world,
            lambda: _in_force(
                world, lambda known: bool(known.members) and leader not in known.voters, committed
            ),
            strike,
        )
    return several(undos)


@fault("many_changes")
def _many_changes(world: "World", rng: Random) -> Undo:
    """Several voters change in one step: the cluster goes through a joint configuration."""
    known = _known(world)
    voters, learners = list(known.voters), list(known.learners)
    changes = [_promotion(node) for node in learners]
    out = rng.sample(voters, rng.randrange(0, len(voters) + (1 if learners else 0)))
    changes += [_demotion(node) if rng.random() < 0.7 else _removal(node) for node in out]
    if len(changes) < 2:
        raise NotNow
    _send(world, rng, tuple(changes), force=rng.random() < 0.7)
    return _strike_joint(world, rng)


@fault("disjoint_replacement", least=2 * SECOND)
def _disjoint_replacement(world: "World", rng: Random) -> Undo:
    """All voters at once are replaced by others, who must be there: it is forced."""
    known = _known(world)
    fit = [node for node in known.learners if node not in known.read_only and node not in world.atlas.lost]
    if not fit:
        raise NotNow
    demoted = rng.random() < 0.5
    changes = [_promotion(node) for node in fit]
    changes += [_demotion(node) if demoted else _removal(node) for node in known.voters]
    _send(world, rng, tuple(changes), force=True)
    return _strike_joint(world, rng)


def _strike_joint(world: "World", rng: Random) -> Undo:
    """While a joint configuration is in force, part of the world is cut off, or dies."""
    undos: list[Undo] = []
    kind = rng.choice(("none", "cut", "cut", "leader", "some", "some"))
    power = rng.random() < 0.5

    def strike() -> None:
        world.trace.count(f"members: in a joint state, {kind}")
        if kind == "cut":
            nodes = rng.sample(world.ids, len(world.ids))
            at = rng.randrange(1, len(nodes)) if len(nodes) > 1 else 1
            undos.append(cut_between(world, nodes[:at], nodes[at:]))
        elif kind == "leader":
            with suppress(NotNow):
                _kill(world, world.leader(), undos, power)
        elif kind == "some":
            for node in rng.sample(world.ids, rng.randrange(1, len(world.ids) + 1)):
                _kill(world, node, undos, power)

    _when(world, lambda: _in_force(world, lambda known: known.joint), strike)
    return several(undos)


@fault("unaware_of_promotion", least=3 * SECOND)
def _unaware_of_promotion(world: "World", rng: Random) -> Undo:
    """A learner is cut off and becomes a voter meanwhile. Then the leader dies: its vote may be needed."""
    known = _known(world)
    fit = [node for node in known.learners if node not in known.read_only]
    if not fit:
        raise NotNow
    node = rng.choice(fit)
    undos = [cut_between(world, [node], [other for other in world.ids if other != node])]

    def strike() -> None:
        world.trace.count("members: promoted without knowing")
        undos.pop(0)()
        with suppress(NotNow):
            _kill(world, world.leader(), undos, power=rng.random() < 0.5)

    def is_voter(known: Configuration) -> bool:
        return node in known.voters and not known.joint

    _send(world, rng, (_promotion(node),), force=True)
    _when(world, lambda: _in_force(world, is_voter, committed=True), strike)
    return several(undos)


# --- machines -----------------------------------------------------------------------------------------------


@fault("replace_silent", least=3 * SECOND)
def _replace_silent(world: "World", rng: Random) -> Undo:
    """A voter is down, and a machine that is still to be started takes its place in one step."""
    known = _known(world)
    new, old = _outside(world, rng), rng.choice(known.voters)
    undos: list[Undo] = []
    _kill(world, old, undos, power=rng.random() < 0.5)
    member = Member(new, world.nodes[new].settings.address)
    changes = (MemberChange("add_learner", member), _promotion(new), _removal(old))
    world.events.after(rng.randrange(SECOND), _send, world, rng, changes, False)
    world.begin_anew(new)
    return several(undos)


def _all_know_addresses(world: "World") -> bool:
    """Two that moved, and do not know that of each other, cannot meet: an operator moves one after the other."""
    members = world.shared.safety.roster.newest
    for member in () if members is None else members.members:
        known = world.nodes[member.id].record.configurations
        if member.id not in world.atlas.lost and known:
            for other in known[-1][1].members:
                if other.address != world.nodes[other.id].settings.address:
                    return False
    return True


@fault("move", least=SECOND)
def _move(world: "World", rng: Random) -> Undo:
    """A machine comes back at another address, one at a time. The operator asks until everybody knows."""
    members = world.shared.safety.roster.newest
    # Whoever knows nobody yet could not be found, nor find anybody, at another address; and without it the others must
    # be able to agree on it.
    nodes = [
        member.id
        for member in ([] if members is None else members.members)
        if member.id not in world.atlas.lost
        and world.nodes[member.id].record.oracle.durable.last_index
        and world.atlas.is_spare(member.id)
    ]
    if not nodes or world.atlas.moving or not _all_know_addresses(world):
        raise NotNow
    node = rng.choice(nodes)
    machine, undos = world.nodes[node], list[Undo]()
    _kill(world, node, undos)
    host, _, port = machine.settings.address.partition(":")
    address = f"{host}:{int(port) + 1}"
    machine.settings = replace(machine.settings, address=address)
    world.atlas.moving[node] = True

    def ask() -> None:
        members = world.shared.safety.roster.newest
        member = None if members is None else members.member(node)
        if member is None or member.address == address:
            del world.atlas.moving[node]
            return
        _send(world, rng, (MemberChange("set_address", Member(node, address)),), force=False, patience=0)
        world.events.after(SECOND, ask)

    ask()
    return several(undos)


@fault("wiped_disk")
def _wiped_disk(world: "World", rng: Random) -> Undo:
    """A member comes back with an empty disk under its old number. It must not be let in."""
    known = _known(world)
    members = [member.id for member in known.members if world.atlas.lost.get(member.id) is None]
    if not members:
        raise NotNow
    node = rng.choice(members)
    if world.atlas.moving or not world.atlas.may_damage(node):
        raise NotNow
    world.atlas.damaged[node] = True
    world.shared.safety.majorities.damaged = True
    world.nodes[node].wipe()
    return nothing


@fault("remove_lost")
def _remove_lost(world: "World", rng: Random) -> Undo:
    """The operator gives up a member that cannot come back. Its machine may be added later."""
    lost = [member.id for member in _known(world).members if member.id in world.atlas.lost]
    if not lost:
        raise NotNow
    _send(world, rng, (_removal(rng.choice(lost)),), False)
    return nothing
