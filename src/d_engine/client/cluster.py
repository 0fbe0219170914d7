"""The rare operations of a client, about the cluster and its members, in terms of one primitive."""

import math
from abc import abstractmethod
from asyncio import Future
from collections.abc import Sequence

import msgspec

from d_engine.client.api import Client, LeaderInfo, MemberChange, MemberInfo, SnapshotInfo, Status
from d_engine.client.documents import decode_leader, decode_members, decode_snapshot, decode_status
from d_engine.format.errors import InvalidRequestError
from d_engine.format.ids import Incarnation, NodeId


class ClusterClient(Client):
    """Implements this part of `Client`."""

    @abstractmethod
    def _manage(self, operation: str, arguments: bytes, timeout: float | None) -> "Future[bytes]":
        """The future document that a rare operation answers with (see `d_engine.format.requests.Manage`)."""

    async def members(self, *, timeout: float | None = None) -> list[MemberInfo]:
        return decode_members(await self._operate("members", timeout))

    async def leader(self, *, timeout: float | None = None) -> LeaderInfo | None:
        return decode_leader(await self._operate("leader", timeout))

    async def status(self, *, timeout: float | None = None) -> Status:
        return decode_status(await self._operate("status", timeout))

    async def take_snapshot(self, *, timeout: float | None = None) -> SnapshotInfo:
        return decode_snapshot(await self._operate("snapshot", timeout))

    async def transfer(self, to: NodeId, *, timeout: float | None = None) -> None:
        await self._operate("transfer", timeout, to=to)

    async def change_members(
        self, changes: Sequence[MemberChange], *, force: bool = False, timeout: float | None = None
    ) -> None:
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
        change = MemberChange("add_learner", node_id, address, read_only, incarnation)
        await self.change_members((change,), timeout=timeout)

    async def promote(self, *node_ids: NodeId, force: bool = False, timeout: float | None = None) -> None:
        changes = [MemberChange("promote", node_id) for node_id in node_ids]
        await self.change_members(changes, force=force, timeout=timeout)

    async def demote(self, *node_ids: NodeId, force: bool = False, timeout: float | None = None) -> None:
        changes = [MemberChange("demote", node_id) for node_id in node_ids]
        await self.change_members(changes, force=force, timeout=timeout)

    async def remove(self, *node_ids: NodeId, force: bool = False, timeout: float | None = None) -> None:
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
        changes = (
            MemberChange("remove", old),
            MemberChange("add_learner", new, address),
            MemberChange("promote", new),
        )
        await self.change_members(changes, force=force, timeout=timeout)

    async def set_address(self, node_id: NodeId, address: str, *, timeout: float | None = None) -> None:
        await self.change_members((MemberChange("set_address", node_id, address),), timeout=timeout)

    def _operate(self, operation: str, timeout: float | None, **arguments: object) -> "Future[bytes]":
        if timeout is not None:
            check_timeout(timeout)
        return self._manage(operation, msgspec.json.encode(arguments), timeout)


def check_timeout(timeout: float) -> None:
    """Raise `InvalidRequestError` unless this is a number of seconds above 0."""
    if not timeout > 0 or math.isinf(timeout):
        raise InvalidRequestError(f"a time-out must be a finite number of seconds above 0, not {timeout!r}")
