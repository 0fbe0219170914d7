"""The node: a replica, its thread and its connections, from start to stop.

`NodeBuilder.start` makes one: the data directory is open and recovered, the address is bound, nothing takes part yet.
`run` takes part until the node is stopped. `stop` ends it, in order, whatever stage it is in.

All methods may be called from any event loop; what happens inside happens on the engine's thread.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from d_engine.client.api import LeaderInfo
from d_engine.engine.config import EngineConfig
from d_engine.engine.core import NodeCore
from d_engine.engine.joining import join
from d_engine.engine.latest import Latest, Subscription
from d_engine.engine.opening import Opening
from d_engine.engine.status import Membership, membership_of
from d_engine.format.configuration import Configuration
from d_engine.format.errors import DEngineError, EngineStoppedError
from d_engine.format.ids import LogIndex, NodeId
from d_engine.raft.effects import LeaderState, Role
from d_engine.replica.listener import Health, ReplicaListener
from d_engine.runtime.thread import EngineThread

_log = logging.getLogger(__name__)

CoreFactory = Callable[[ReplicaListener, Opening], NodeCore]
"""Makes what lives on the engine's thread, and has it tell the listener what happens, and how far it is with that."""

STOP_SECONDS = 5.0
"""How long `stop` waits for the disk and for a successor, by default."""

MEMBERSHIPS_KEPT = 1024
"""Changes of members that a slow subscriber still gets one by one."""


class Node:
    """Made by `NodeBuilder.start`.

    Example::

        node = await NodeBuilder(EngineConfig.single_node("./data")).start()
        running = asyncio.create_task(node.run())
        leader = await node.leader_change_notifier().wait_for(lambda leader: leader is not None)
        assert leader.leader_id == node.node_id
        await node.stop()
        await running
    """

    def __init__(self, config: EngineConfig, make_core: CoreFactory) -> None:
        """`make_core` is called on the engine's thread; tests and special wiring give their own."""
        self.config = config
        self.thread = EngineThread(f"d-engine-{config.node.id}")
        self.failure: Latest[BaseException | None] = Latest(None)
        """Why the node ended, if not because it was stopped."""
        self._make_core = make_core
        self._opening = Opening(config)
        self._core: NodeCore | None = None
        self._ready = Latest(False)
        self._leader: Latest[LeaderInfo | None] = Latest(None)
        self._members: Latest[Membership | None] = Latest(None, MEMBERSHIPS_KEPT)
        self._stopping = Latest(False)
        self._opened: Future[None] = Future()
        self._stop_seconds = STOP_SECONDS
        self._health = Health()

    # --- properties ---

    @property
    def node_id(self) -> NodeId:
        """This node's number in the cluster."""
        return self.config.node.id

    @property
    def core(self) -> NodeCore:
        """What lives on the engine's thread. Raises `EngineStoppedError` before the start and after the end."""
        if self._core is None:
            raise EngineStoppedError("the node is not running", self.failure.value)
        return self._core

    @property
    def is_rpc_ready(self) -> bool:
        """Whether the node accepts requests. It does not mean that there is a leader."""
        return self._ready.value

    def set_rpc_ready(self, ready: bool) -> None:
        """Set by the node itself when it starts to take part. Idempotent."""
        self._ready.publish(ready)

    def ready_notifier(self) -> Subscription[bool]:
        """Tells when `is_rpc_ready` changes."""
        return self._ready.subscribe()

    @property
    def leader(self) -> LeaderInfo | None:
        """The leader that this node knows. The leader itself appears here once its term's first entry is applied."""
        return self._leader.value

    def leader_change_notifier(self) -> Subscription[LeaderInfo | None]:
        """Tells when `leader` changes; None while none is known."""
        return self._leader.subscribe()

    @property
    def members(self) -> Membership | None:
        """The committed members, as far as this node has applied them."""
        return self._members.value

    def membership_change_notifier(self) -> Subscription[Membership | None]:
        """Tells each change of `members`, in order."""
        return self._members.subscribe()

    def __repr__(self) -> str:
        if self._core is None:
            return f"<Node {self.node_id} {'stopped' if self._opened.done() else 'not started'}>"
        raft = self._core.replica.raft
        return (
            f"<Node {self.node_id} {raft.role.value} term={raft.term} leader={raft.leader or None} "
            f"commit={raft.commit_index} applied={self._core.replica.applier.applied_index}>"
        )

    # --- life ---

    async def open(self) -> None:
        """Open the data directory, recover, bind the address. Raises what went wrong; nothing is left open then."""
        self.thread.start(self._main)
        try:
            await self._opening.watch(asyncio.shield(asyncio.wrap_future(self._opened)))
        except asyncio.CancelledError:
            self.thread.stop()
            raise

    async def run(self) -> None:
        """Take part until `stop`. A node that knows of no cluster yet asks to be added first. Returns after `stop`;
        raises what the node died of."""
        stopping = self._stopping.subscribe()
        self.thread.pulse.accompany()
        self.set_rpc_ready(True)
        try:
            await asyncio.wrap_future(self.thread.run(_take_part(self.core)))
            joining = asyncio.ensure_future(self._join())
            stop = asyncio.ensure_future(stopping.wait_for(bool))
            try:
                await asyncio.wait((joining, stop), return_when=asyncio.FIRST_COMPLETED)
                if joining.done():
                    joining.result()
                await stop
            finally:
                for task in (joining, stop):
                    task.cancel()
        except EngineStoppedError:
            if not self._stopping.value and self.failure.value is None:
                raise
        finally:
            stopping.close()
            self.set_rpc_ready(False)
        failure = self.failure.value
        if failure is not None:
            raise failure

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End the node: hand leadership over if it leads, answer whoever waits, close connections and files.
        Idempotent. A disk that hangs delays it no longer than `seconds`."""
        self.set_rpc_ready(False)
        first = not self._stopping.value
        if first and self._core is not None and self.thread.running:
            with suppress(EngineStoppedError):
                await asyncio.wrap_future(self.thread.run(self._core.hand_over_leadership(seconds / 2)))
        self._stop_seconds = seconds
        self._stopping.publish(True)
        if self.thread.running:
            self.thread.stop()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self.thread.join, seconds + 1)

    # --- on the engine's thread ---

    async def _main(self) -> None:
        try:
            core = self._make_core(self, self._opening)
        except BaseException as error:
            self._opened.set_exception(error)
            return
        try:
            await core.listen()
            self._core = core
            self._opened.set_result(None)
            await asyncio.get_running_loop().create_future()
        except BaseException as error:
            if not self._opened.done():
                self._opened.set_exception(error)
            elif not isinstance(error, asyncio.CancelledError):
                raise
        finally:
            # The cause first: whoever misses the core asks for it.
            if self.thread.failure is not None:
                self.failure.publish(self.thread.failure)
            self._core = None
            self._leader.publish(None)
            core.close(self._stop_seconds, self.thread.failure)
            self._stopping.publish(True)

    def leader_changed(self, state: LeaderState) -> None:
        """From the replica: publish who leads. A leader that is not ready yet is announced as nobody."""
        known = state.leader and (state.role is not Role.LEADER or state.ready)
        if known:
            _log.info("node %d leads in term %d", state.leader, state.term)
        self._leader.publish(LeaderInfo(state.leader, state.term) if known else None)

    def members_changed(self, index: LogIndex, configuration: Configuration) -> None:
        """From the replica: publish the members."""
        self._members.publish(membership_of(index, configuration))

    def health_changed(self, health: Health) -> None:
        """From the replica: something is wrong with the data, or no longer."""
        before, self._health = self._health, health
        if health.reason != before.reason:
            if health.quarantine:
                _log.error("node %d is in quarantine: %s", self.node_id, health.quarantine)
            else:
                _log.warning("node %d is whole again", self.node_id)
        if health.disk_full != before.disk_full:
            if health.disk_full:
                _log.error("the disk of node %d is full: %s", self.node_id, health.disk_full)
            else:
                _log.warning("node %d has room on its disk again", self.node_id)
        if health.alarm != before.alarm:
            if health.alarm:
                _log.error("ALARM: %s", health.alarm)
            else:
                _log.warning("the alarm is over: a majority of the replicas agrees again")

    def failed(self, error: DEngineError) -> None:
        """From the replica: it stopped."""
        if not isinstance(error, EngineStoppedError):
            self.failure.publish(error)
            self.thread.fail(error)

    async def _join(self) -> None:
        """Ask to be added, if the data directory knows of no cluster. One that does was a member: it is still one, or
        it was removed and must not come back by itself."""
        cluster, core = self.config.cluster, self.core
        if cluster.join and not core.replica.raft.configuration.members:

            def is_member() -> bool:
                return core.replica.raft.committed_configuration.member(self.node_id) is not None

            await join(
                cluster.join,
                self.node_id,
                self.config.own_address,
                core.incarnation,
                cluster.read_only,
                is_member,
            )


async def _take_part(core: NodeCore) -> None:
    core.start()
