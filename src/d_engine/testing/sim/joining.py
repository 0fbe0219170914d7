"""What `d_engine.engine.joining` does, in the simulator: a node that knows no cluster asks to be added."""

from typing import TYPE_CHECKING

from d_engine.format.configuration import Member
from d_engine.format.errors import DEngineError, MembershipError
from d_engine.format.ids import NodeId
from d_engine.format.messages import MemberChange
from d_engine.testing.sim.events import MILLISECOND

if TYPE_CHECKING:
    from d_engine.testing.sim.world import World

JOIN_PAUSE = 250 * MILLISECOND


def begin_to_join(world: "World", node: NodeId) -> None:
    """The node's process has started: if it knows no cluster, it asks some member, again and again, until it is one."""
    machine, joining = world.nodes[node], world.atlas.joining
    joining.pop(node, None)
    process = machine.process
    if process is not None and not process.replica.raft.configuration.members:
        joining[node] = (machine.life, process.replica.settings.incarnation)
        _ask(world, node, joining[node])


def _ask(world: "World", node: NodeId, attempt: tuple[int, int]) -> None:
    machine, joining = world.nodes[node], world.atlas.joining
    process = machine.process
    if process is None or machine.life != attempt[0] or joining.get(node) != attempt:
        return
    if process.replica.raft.committed_configuration.member(node) is not None:
        del joining[node]
        return
    count = world.counting("members: join")

    def ended(error: DEngineError | None) -> None:
        count(error)
        if joining.get(node) != attempt:
            return
        if error is None:
            del joining[node]
        elif isinstance(error, MembershipError) and error.code == MembershipError.code:
            # Another data directory has its number: it ends.
            world.atlas.lost[node] = True
            machine.kill()

    asked = [other for other in world.nodes.values() if other.alive and other.id != node]
    if asked:
        other = world.choose(asked)
        member = Member(node, machine.settings.address, process.replica.settings.incarnation)
        change = MemberChange("add_learner", member)
        other.enter(other.life, other.ask_change, (change,), False, ended)
    world.events.after(JOIN_PAUSE, _ask, world, node, attempt)
