"""A node's state in the words of the client interface."""

from typing import Literal

from msgspec import Struct

from d_engine.client.api import LeaderInfo, MemberInfo, PeerStatus, Status
from d_engine.format.configuration import Configuration
from d_engine.format.ids import LogIndex, NodeId
from d_engine.format.version import __version__
from d_engine.raft.effects import Role
from d_engine.replica.replica import Replica
from d_engine.runtime.clock import boot_time_ns


class Membership(Struct, frozen=True):
    """The committed members at a log index. `joint`: in the middle of a step, in which the old voters decide too."""

    index: LogIndex
    members: tuple[MemberInfo, ...]
    joint: bool = False

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """Who decides from now on, by rising id."""
        return self._of("voter")

    @property
    def learners(self) -> tuple[NodeId, ...]:
        """Who receives the log and decides nothing, by rising id."""
        return self._of("learner")

    @property
    def outgoing(self) -> tuple[NodeId, ...]:
        """Voters that are about to leave, or to become learners. Empty except in the middle of a step."""
        return self._of("outgoing")

    def _of(self, role: str) -> tuple[NodeId, ...]:
        return tuple(member.id for member in self.members if member.role == role)


def membership_of(index: LogIndex, configuration: Configuration) -> Membership:
    """A configuration as people see it."""
    return Membership(index, tuple(_members(configuration)), configuration.joint)


def members_of(replica: Replica) -> list[MemberInfo]:
    """The members that this node knows: the applied ones, or those that it was started with."""
    return _members(replica.configuration)


def _members(configuration: Configuration) -> list[MemberInfo]:
    infos = []
    for member in configuration.members:
        role: Literal["voter", "learner", "outgoing"]
        if member.id in configuration.voters:
            role = "voter"
        elif member.id in configuration.outgoing:
            role = "outgoing"
        else:
            role = "learner"
        infos.append(MemberInfo(member.id, member.address, role, member.id in configuration.read_only))
    return infos


def leader_of(replica: Replica) -> LeaderInfo | None:
    """The leader that this node knows."""
    raft = replica.raft
    return LeaderInfo(raft.leader, raft.term) if raft.leader else None


def status_of(replica: Replica, metrics: dict[str, int | float]) -> Status:
    """How this node is doing; `metrics` are its numbers."""
    raft = replica.raft
    role = raft.role.value
    if raft.role is Role.FOLLOWER and not raft.configuration.is_voter(replica.settings.node_id):
        role = "learner"
    waiting = replica.changer.promotion.waiting(boot_time_ns()) if raft.role is Role.LEADER else {}
    peers = tuple(
        PeerStatus(node, peer.match_index, peer.lag, peer.state, waiting.get(node, ""), peer.quarantined)
        for node, peer in raft.status().peers.items()
    )
    return Status(
        node_id=replica.settings.node_id,
        cluster_id=replica.cluster_id,
        version=__version__,
        role=role,
        term=raft.term,
        leader_id=raft.leader,
        commit_index=raft.commit_index,
        applied_index=replica.applier.applied_index,
        last_index=raft.last_index,
        first_index=raft.first_index,
        revision=replica.applier.state_machine.revision,
        leader_ready=raft.ready,
        disk_full=bool(replica.executor.snapshots.lacks_room),
        alarm=replica.executor.guard.health.alarm,
        quarantine=replica.executor.guard.health.quarantine,
        peers=peers,
        metrics=metrics,
    )
