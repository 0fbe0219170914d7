"""Everything of a node that lives on the engine's thread: the replica, and the real ports around it.

Built in the order in which the parts can fail, so that a bad directory, a corrupt log or a taken port is one clear
error before anything else has happened; taken down in the opposite order.
"""

import asyncio
import logging
from collections.abc import Sequence

from d_engine.engine.backend import NodeBackend
from d_engine.engine.config import EngineConfig
from d_engine.engine.directory import make_data_directory
from d_engine.engine.opening import Opening
from d_engine.engine.parts import NodeParts, default_storage
from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import (
    ConfigError,
    CorruptionError,
    DataDirectoryError,
    DEngineError,
    EngineStoppedError,
    MalformedError,
)
from d_engine.format.hello import Hello, Refusal
from d_engine.format.ids import Incarnation, NodeId
from d_engine.format.messages import MemberChange, PeerMessage
from d_engine.raft.effects import Role
from d_engine.replica.changer import TRANSFER
from d_engine.replica.listener import ReplicaListener
from d_engine.replica.replica import Replica
from d_engine.replica.settings import MILLISECOND, SECOND, ReplicaSettings, SnapshotSettings, WatchSettings
from d_engine.runtime.connection import Connection, Handler
from d_engine.runtime.disk import FileDisk
from d_engine.runtime.greeting import Identity
from d_engine.runtime.host import LoopHost
from d_engine.runtime.listener import Listener
from d_engine.runtime.peers import PeerEvents
from d_engine.server.connection import ClientHandler
from d_engine.storage.disk import Disk
from d_engine.storage.identity import IDENTITY_NAME, load_identity
from d_engine.storage.memory import MemoryDisk
from d_engine.storage.quarantine import QUARANTINE_NAME
from d_engine.storage.snapshots import SnapshotFiles

_log = logging.getLogger(__name__)
IDLE_CLOSE_SECONDS = 5.0


class NodeCore:
    """Make, use and close on the engine's thread."""

    def __init__(
        self, config: EngineConfig, parts: NodeParts, listener: ReplicaListener, opening: Opening
    ) -> None:
        """Recovers the log, and tells `opening` how far it is. Raises `StorageError`, `ConfigError`; nothing is left
        open then."""
        self._config = config
        loop = asyncio.get_running_loop()
        self._host = LoopHost(loop)
        make_data_directory(config.node.data_dir)
        self._disk = FileDisk(config.node.data_dir, self._host.post)
        self._disk.watch(opening.reading, opening.performing)
        try:
            if parts.storage is default_storage:
                _check_files(self._disk.files(), config)
            disk = self._disk_of_what_stays()
            self.incarnation = load_identity(disk, config.node.id, self._host.random_bits)
            identity = Identity(lambda channel: self.replica.peers.hello(channel), self._admit)
            events = PeerEvents(self._receive, self._connected, self._lost, self._refused)
            self._network = parts.transport(identity, events, self._host)
            self.replica = Replica(
                replica_settings(config, self.incarnation),
                self._host,
                self._network,
                parts.storage(self._disk, self._host, config),
                SnapshotFiles(disk),
                parts.state_machine(),
                listener,
            )
        except BaseException:
            # Nothing is under way there: it only takes its threads a moment to end, and then the directory is unlocked.
            self._disk.close(IDLE_CLOSE_SECONDS)
            raise
        self._disk.watch(None, None)
        log_recovery(self.replica)
        self.backend = NodeBackend(self.replica, self._host.random_bits, config.limits)
        self.run = self._host.run
        """See `LoopHost.run`."""
        self._listener = Listener(
            identity,
            self._network.accept,
            self._serve_client,
            insecure_listen=config.cluster.insecure_listen,
        )

    async def listen(self) -> None:
        """Members and clients can reach this node from now on. Raises `AddressInUseError`, `ListenError`."""
        cluster = self._config.cluster
        for address in dict.fromkeys((cluster.listen, cluster.client_listen)):
            if address:
                await self._listener.listen(address)

    def start(self) -> None:
        """Take part in the cluster."""
        cluster = self._config.cluster
        if self._config.storage.engine == "memory" and (cluster.join or len(cluster.initial) > 1):
            _log.warning(
                "storage.engine is memory: when this node stops it has forgotten everything, and the others do not let"
                " it in again before it is removed and added anew; when a majority has stopped the data is gone"
            )
        self.replica.start()
        self._host.start(self.replica.wake)

    async def hand_over_leadership(self, seconds: float) -> None:
        """If this node leads others, let one of them lead before it goes."""
        replica = self.replica
        target = replica.raft.best_transferee(self._host.now()) if replica.raft.role is Role.LEADER else 0
        if not target or replica.error is not None:
            return
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: DEngineError | None) -> None:
            if not over.done():
                over.set_result(None)

        change = MemberChange(TRANSFER, Member(target))
        replica.change((change,), False, int(seconds * SECOND), done)
        await asyncio.wait([over], timeout=seconds)

    def close(self, seconds: float, cause: BaseException | None = None) -> None:
        """Stop taking part, because of `cause` if not by request. Whoever waits is answered; a hung disk delays this no
        longer than `seconds`."""
        self._host.stop()
        self.replica.fail(EngineStoppedError(cause=cause))
        self._listener.close()
        self._network.close()
        self._disk.close(seconds)

    def _disk_of_what_stays(self) -> Disk:
        """A log in memory forgets everything at a restart, and so must its snapshots. It forgets its votes too: so the
        node must not come back as the one that gave them, and its identity is forgotten as well."""
        in_memory = self._config.storage.engine == "memory"
        return MemoryDisk(self._host.call_soon) if in_memory else self._disk

    # --- what the connections tell ---

    def _admit(self, hello: Hello, address: str) -> Refusal | None:
        return self.replica.peer_admit(hello)

    def _receive(self, sender: NodeId, messages: list[PeerMessage]) -> None:
        receive = self.replica.receive
        try:
            for message in messages:
                receive(sender, message)
        except MalformedError:
            self._network.disconnect(sender)

    def _connected(self, peer: NodeId) -> None:
        self.replica.peer_connected(peer)

    def _lost(self, peer: NodeId) -> None:
        self.replica.peer_lost(peer)

    def _refused(self, peer: NodeId, refusal: Refusal) -> None:
        self.replica.peer_refused(peer, refusal)

    def _serve_client(self, connection: Connection, hello: Hello) -> Handler:
        return ClientHandler(connection, self.backend)


def log_recovery(replica: Replica) -> None:
    """What the node starts with."""
    raft, files = replica.raft, replica.executor.snapshots.files
    for complaint in files.refused:
        _log.error("a snapshot is refused: %s", complaint)
    if files.newest is not None:
        header = files.newest.header
        _log.info("restored the snapshot of log index %d, %d bytes", header.index, header.size)
    _log.info("the log holds entries %d to %d", raft.first_index, raft.last_index)


def replica_settings(config: EngineConfig, incarnation: Incarnation) -> ReplicaSettings:
    """The part of the configuration that the replica needs."""
    raft, limits = config.raft, config.limits
    return ReplicaSettings(
        node_id=config.node.id,
        incarnation=incarnation,
        address=config.own_address,
        bootstrap=bootstrap_configuration(config),
        heartbeat_ns=raft.heartbeat_ms * MILLISECOND,
        election_min_ns=raft.election_min_ms * MILLISECOND,
        election_max_ns=raft.election_max_ms * MILLISECOND,
        log_cache_bytes=config.storage.log_cache_bytes,
        max_pending_writes=limits.max_pending_writes,
        max_pending_reads=limits.max_pending_reads,
        auto_promote=config.cluster.auto_promote,
        watches=WatchSettings(
            history_bytes=limits.watch_history_bytes,
            max_watches=limits.max_watches,
            max_per_owner=limits.max_watches_per_client,
        ),
        repair=config.storage.repair,
        marker_ns=int(config.storage.marker_interval_s * SECOND),
        snapshots=SnapshotSettings(receive_bytes_per_second=config.storage.snapshot_bytes_per_second),
    )


def bootstrap_configuration(config: EngineConfig) -> Configuration | None:
    """The members with which a cluster is born; None for a node that joins one. Only looked at while the data
    directory knows of no members."""
    if config.cluster.join:
        return None
    members = tuple(Member(member.id, member.address) for member in config.cluster.initial)
    if not members:
        members = (Member(config.node.id, config.own_address),)
    members = tuple(sorted(members, key=lambda member: member.id))
    voters = tuple(member.id for member in members)
    if config.node.id not in voters:
        raise ConfigError(f"node.id {config.node.id} is not among the initial members {voters}")
    return Configuration(0, members, voters, lease_reads=config.cluster.lease_reads)


def _check_files(files: Sequence[str], config: EngineConfig) -> None:
    """A directory that was in use and has lost its log must not come back empty under its old identity: it would have
    forgotten its vote and what it acknowledged. Nor must one whose log would not be looked at."""
    directory = config.node.data_dir
    if config.storage.engine == "memory":
        if IDENTITY_NAME in files:
            raise DataDirectoryError(
                f"the data directory {directory} holds the data of a node, and storage.engine is memory, which would"
                ' not look at it: set that to "wal", or configure an empty directory'
            )
        return
    if (
        IDENTITY_NAME in files
        and QUARANTINE_NAME not in files
        and not any(name.startswith("log-") and name.endswith(".wal") for name in files)
    ):
        raise CorruptionError(
            f"the data directory {directory} has an identity but no log: its log was removed, or its first start was "
            "interrupted. Remove the directory; if the node was a member, remove it from the cluster and add it anew"
        )
