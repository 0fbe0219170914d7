"""The part of the `Client` interface that is about the cluster and its members: rare operations."""

from asyncio import Future
from collections.abc import Sequence

import msgspec

from d_engine.client.documents import (
    LeaderInfo,
    MemberChange,
    MemberInfo,
    SnapshotInfo,
    Status,
    decode_leader,
    decode_members,
    decode_snapshot,
    decode_status,
)
from d_engine.client.primitives import Primitives, check_timeout
from d_engine.format.ids import Incarnation, NodeId


class Cluster(Primitives):
    """Inherited by `Client`, which says what errors every method may raise."""

    async def members(self, *, timeout: float | None = None) -> list[MemberInfo]:
        """The members, by rising id, as the node that is asked knows them.

        Example::

            for member in await client.members():
                print(member.id, member.role, member.address)
        """
        return decode_members(await self._operate("members", timeout))

    async def leader(self, *, timeout: float | None = None) -> LeaderInfo | None:
        """The leader that the node which is asked knows, None if it knows none now.

        Example::

            leader = await client.leader()
            print("nobody leads" if leader is None else f"node {leader.leader_id} leads in term {leader.term}")
        """
        return decode_leader(await self._operate("leader", timeout))

    async def status(self, *, timeout: float | None = None) -> Status:
        """How the node that is asked is doing.

        Example::

            status = await client.status()
            print(status.role, status.revision, status.alarm or "no alarm")
        """
        return decode_status(await self._operate("status", timeout))

    async def take_snapshot(self, *, timeout: float | None = None) -> SnapshotInfo:
        """Let the node that is asked take a snapshot of what it has applied, and wait until it is on stable storage.
        Nodes take them by themselves; this is for before an upgrade or a copy of the directory. Raises `SnapshotError`
        where there is nothing to take yet, `DiskFullError`, and `OutcomeUnknownError` if it takes longer than
        `timeout`: it goes on then.

        Example::

            taken = await client.take_snapshot(timeout=600)
            print(taken.size_bytes, "bytes")
        """
        return decode_snapshot(await self._operate("snapshot", timeout))

    async def transfer(self, to: NodeId, *, timeout: float | None = None) -> None:
        """Make the voter `to` the leader. Returns when it was told to campaign or has taken over. Raises
        `MembershipError` if it leads already, is not a voter or does not catch up within an election time-out.

        Example::

            await client.transfer(2)
        """
        await self._operate("transfer", timeout, to=to)

    async def change_members(
        self, changes: Sequence[MemberChange], *, force: bool = False, timeout: float | None = None
    ) -> None:
        """Change the members, by all of these in one step (joint consensus; Raft dissertation, 4.3).

        Returns when the cluster has carried it out. Raises `MembershipError` if it is refused: because it makes no
        sense, or because it is unwise (voters that have not caught up or do not answer, an even number of them).
        `force` overrides the latter. Raises `ChangePendingError`, which says what is pending, while another change is
        under way, and `OutcomeUnknownError` if no answer came: then `members` tells.

        The methods below are this one, for one purpose each.

        Example::

            await client.change_members([MemberChange("remove", 3), MemberChange("promote", 4)])
        """
        await self._operate("change", timeout, changes=tuple(changes), force=force)

    async def add_learner(
        self,
        node_id: NodeId,
        address: str,
        *,
        read_only: bool = False,
        incarnation: Incarnation = 0,
        timeout: float | None = None,
    ) -> None:
        """Make the node at `address` a member that receives the log and decides nothing. Once it has caught up, the
        leader makes it a voter by itself if that makes the number of voters odd; never if it is `read_only`.
        `incarnation` binds it to one data directory (0: to the first that comes). Doing it again changes nothing.

        Example::

            await client.add_learner(5, "10.0.0.5:7000")
        """
        change = MemberChange("add_learner", node_id, address, read_only, incarnation)
        await self.change_members((change,), timeout=timeout)

    async def promote(self, *node_ids: NodeId, force: bool = False, timeout: float | None = None) -> None:
        """Make learners voters, in one step.

        Example::

            await client.promote(4, force=True)  # an even number of voters is unwise
        """
        changes = [MemberChange("promote", node_id) for node_id in node_ids]
        await self.change_members(changes, force=force, timeout=timeout)

    async def demote(self, *node_ids: NodeId, force: bool = False, timeout: float | None = None) -> None:
        """Make voters learners, in one step. They stay learners until `promote`.

        Example::

            await client.demote(3, force=True)
        """
        changes = [MemberChange("demote", node_id) for node_id in node_ids]
        await self.change_members(changes, force=force, timeout=timeout)

    async def remove(self, *node_ids: NodeId, force: bool = False, timeout: float | None = None) -> None:
        """Remove members for good, in one step. They stop, and cannot come back with the same data directories.

        Example::

            await client.remove(4)
        """
        changes = [MemberChange("remove", node_id) for node_id in node_ids]
        await self.change_members(changes, force=force, timeout=timeout)

    async def replace(
        self,
        old: NodeId,
        new: NodeId,
        address: str = "",
        *,
        force: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Put a voter in the place of another member, in one step. `new` is a learner that has caught up or, if `old`
        does not answer any more, a node that is still to be started, at `address`.

        Example::

            await client.replace(3, 4)
        """
        changes = (
            MemberChange("remove", old),
            MemberChange("add_learner", new, address),
            MemberChange("promote", new),
        )
        await self.change_members(changes, force=force, timeout=timeout)

    async def set_address(self, node_id: NodeId, address: str, *, timeout: float | None = None) -> None:
        """A member is found at another address from now on.

        Example::

            await client.set_address(4, "10.0.1.4:7000")
        """
        await self.change_members((MemberChange("set_address", node_id, address),), timeout=timeout)

    def _operate(self, operation: str, timeout: float | None, **arguments: object) -> "Future[bytes]":
        if timeout is not None:
            check_timeout(timeout)
        return self._manage(operation, msgspec.json.encode(arguments), timeout)
