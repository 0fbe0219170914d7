"""Phase two's demands (I12), and what all nodes must agree on when all is quiet (I4).

Every limit is in virtual time: ten election time-outs for a leader whom everybody follows, the clients' own time-outs
for what they had asked, and then writes and linearizable reads through every node must succeed.
"""

from collections.abc import Callable

from d_engine.format.ids import Nanoseconds
from d_engine.kv.machine import KvStateMachine
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.faults import NotNow
from d_engine.testing.sim.node import SimNode
from d_engine.testing.sim.violations import InvariantBroken
from d_engine.testing.sim.work.leases import MAX_TTL
from d_engine.testing.sim.world import World

_SLICE: Nanoseconds = 10 * MILLISECOND
_MAX_EVENTS = 400_000
RESTART_TIME: Nanoseconds = 2500 * MILLISECOND
"""By then every node has been started and connected again."""
ELECTIONS = 10
CATCH_UP_TIME: Nanoseconds = 60 * SECOND
"""Generous: windows may be drawn so small that a follower gets one entry a round trip."""
_QUIET_TIME: Nanoseconds = 3 * SECOND
_FEW_SESSIONS = 100
"""With so few, somebody who is late may take the judge's."""


def demand_recovery(world: World) -> None:
    """Run phase two of a healed world. Raises `InvariantBroken`."""
    features = world.script.features
    started = world.events.count
    _run_until(world, lambda: False, RESTART_TIME, started)
    patience = ELECTIONS * features.election_max
    if not _run_until(world, lambda: _followed_leader(world) is not None, patience, started):
        raise InvariantBroken(
            "I12", f"nobody leads {patience / SECOND:g} s after all faults were over: {_describe(world)}"
        )
    if not _run_until(world, lambda: _is_ready(world), CATCH_UP_TIME, started):
        raise InvariantBroken("I12", f"the leader commits nothing: {_describe(world)}")
    timeout = world.script.workload.timeout_ms * MILLISECOND + 2 * SECOND
    if not _run_until(world, lambda: not world.fleet.busy, timeout, started):
        raise InvariantBroken("I12", f"{world.fleet.busy} operations never ended: {_describe(world)}")
    _demand_ends(world, started)
    _demand_level(world, started)
    _demand_service(world, started)
    _demand_quiet(world, started)
    # A marker may be on its way.
    _demand_level(world, started)
    _demand_watched(world, started)
    _demand_agreement(world)


def _demand_watched(world: World, started: int) -> None:
    """Every watch comes to know all that was written (I10)."""
    histories = world.fleet.histories

    def all_told() -> bool:
        told = [watch.told for watch in histories.watches]
        return all(known is None or known >= histories.chronicle.newest for known in told)

    if not _run_until(world, all_told, CATCH_UP_TIME, started):
        told = [watch.told for watch in histories.watches]
        raise InvariantBroken("I12", f"of {histories.chronicle.newest} revisions watches know {told}")


def _demand_level(world: World, started: int) -> None:
    if not _run_until(world, lambda: _are_level(world), CATCH_UP_TIME, started):
        raise InvariantBroken("I12", f"somebody does not catch up: {_describe(world)}")


def _demand_service(world: World, started: int) -> None:
    """Through every node, one after the other, a write and a read; then a read that has seen all the writes."""
    attempts = 3 if world.script.features.max_sessions < _FEW_SESSIONS else 1
    for node in _present(world):
        judge = world.fleet.judge(node.id)
        _demand(world, node, judge.write_something, "a write", started, attempts)
        _demand(world, node, judge.read_everything, "a read", started)
    for node in _present(world):
        _demand(world, node, world.fleet.judge(node.id).read_everything, "the last read", started)


def _demand(
    world: World,
    node: SimNode,
    ask: Callable[[Callable[[bool], None]], None],
    what: str,
    started: int,
    attempts: int = 1,
) -> None:
    """Unless the node, by a change that was under way, is no member any more. Who became one meanwhile catches up
    first."""
    for _ in range(attempts):
        _demand_level(world, started)
        if node not in _present(world):
            return
        answers: list[bool] = []
        ask(answers.append)
        if _run_until(world, lambda answers=answers: bool(answers), 15 * SECOND, started) and answers[0]:  # type: ignore[misc]
            return
    if node in _present(world):
        text = f"all is well, yet {what} through node {node.id} is in vain; {_describe(world)}"
        raise InvariantBroken("I12", text)


def _demand_quiet(world: World, started: int) -> None:
    before = _terms(world)
    _run_until(world, lambda: False, _QUIET_TIME, started)
    if _terms(world) != before or _followed_leader(world) is None:
        raise InvariantBroken("I12", f"all is well, yet terms grow from {before} to {_describe(world)}")


def _demand_ends(world: World, started: int) -> None:
    """Nobody keeps any lease alive now: all of them end (I11)."""
    patience = MAX_TTL * 11 // 10 + 2 * SECOND
    if not _run_until(world, lambda: not any(map(_leases_on, _present(world))), patience, started):
        raise InvariantBroken("I11", f"leases never end: {list(map(_leases_on, _present(world)))}")


def _leases_on(node: SimNode) -> int:
    machine = None if node.process is None else node.process.machine.inner
    return len(machine.store.leases) if isinstance(machine, KvStateMachine) else 0


def _demand_agreement(world: World) -> None:
    states = {}
    for node in _present(world):
        process = node.process
        if process is not None:
            applier = process.replica.applier
            sessions = applier.sessions.freeze()
            states[node.id] = (
                applier.applied_index,
                process.machine.rolling,
                process.machine.digest(),
                sessions,
            )
    first = next(iter(states.values()))
    for node_id, state in states.items():
        if state != first:
            raise InvariantBroken(
                "I4",
                f"node {node_id} has applied {state[0]} with digest {state[2].hex()} and {len(state[3])} sessions, "
                f"another {first[0]}, {first[2].hex()} and {len(first[3])}",
            )
        world.trace.add_to_hash(state[2])


def _run_until(world: World, condition: Callable[[], bool], patience: Nanoseconds, started: int) -> bool:
    deadline = world.events.now + patience
    while not condition():
        if world.events.now >= deadline:
            return False
        if not world.events.run(min(deadline, world.events.now + _SLICE), started + _MAX_EVENTS):
            raise InvariantBroken("I12", f"{_MAX_EVENTS} events and no end: {_describe(world)}")
    return True


def _present(world: World) -> list[SimNode]:
    """The members, but for those that cannot come back."""
    try:
        ids = [member.id for member in world.committed_configuration().members]
    except NotNow:
        ids = world.ids
    return [world.nodes[node] for node in ids if node not in world.atlas.lost]


def _followed_leader(world: World) -> int | None:
    """The leader, if everybody who is not lost follows it."""
    leaders = {0: True}
    for node in _present(world):
        process = node.process
        if process is None:
            return None
        leaders[process.replica.raft.leader] = True
    return max(leaders) if len(leaders) == 2 else None


def _is_ready(world: World) -> bool:
    """The leader has committed something in its term. With windows of one entry that takes a round trip for each entry
    that its followers lack."""
    leader = _followed_leader(world)
    process = None if leader is None else world.nodes[leader].process
    return process is not None and process.replica.raft.ready


def _are_level(world: World) -> bool:
    """Everybody has applied the same, and nobody's state is wrong."""
    processes = [node.process for node in _present(world) if node.process is not None]
    replicas = [process.replica for process in processes]
    if any(process.machine.diverged for process in processes) or any(
        replica.raft.isolation.stands_still for replica in replicas
    ):
        return False
    return len({replica.applier.applied_index for replica in replicas}) == 1


def _terms(world: World) -> list[int]:
    return [node.process.replica.raft.term for node in _present(world) if node.process is not None]


def _describe(world: World) -> str:
    parts = []
    for node in world.nodes.values():
        if node.process is None:
            parts.append(f"node {node.id} is {'lost' if node.id in world.atlas.lost else 'down'}")
        else:
            raft, applied = node.process.replica.raft, node.process.replica.applier.applied_index
            parts.append(
                f"node {node.id} is {raft.role.value} in term {raft.term}, leader {raft.leader}, "
                f"last {raft.last_index}, commit {raft.commit_index}, applied {applied}"
            )
    return "; ".join(parts)
