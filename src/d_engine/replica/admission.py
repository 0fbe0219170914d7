"""Who may talk to this node (architecture, section 3, "Birth and identity").

A cluster is born once, when its first entry is applied; until then a node presents cluster id 0. Each data directory
has an incarnation of its own, and the configuration binds a member to one. So the node of another cluster, a wiped
disk under an old name, and a removed member are told apart before any message of theirs is looked at.
"""

from collections.abc import Callable, Mapping

from d_engine.format.configuration import Configuration
from d_engine.format.errors import (
    ClusterIdMismatchError,
    IdentityError,
    IncarnationMismatchError,
    NotMemberError,
)
from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.format.ids import ClusterId, Nanoseconds, NodeId
from d_engine.raft.core import Raft
from d_engine.replica.ports import Network
from d_engine.replica.settings import ReplicaSettings

IDENTITY_ERRORS: Mapping[str, type[IdentityError]] = {
    error.code: error
    for error in (ClusterIdMismatchError, IncarnationMismatchError, NotMemberError, IdentityError)
}


def admit(
    hello: Hello,
    own_id: NodeId,
    cluster_id: ClusterId,
    configuration: Configuration,
    committed: Configuration,
    led: bool,
) -> Refusal | None:
    """None if the member may speak, else why not. `cluster_id` is 0 until this node's cluster is born; `configuration`,
    the one in force, has no members on a node that was started to join and knows nobody yet. Who is removed may speak
    until that is `committed`: it may be the leader.

    A node that is not `led` by anybody may have missed changes, and whoever it does not know may be the leader that
    would tell it of them. So it lets in whoever belongs to its cluster (and has therefore been let in by others) or,
    before it knows of its cluster's birth, to any: those have checked its incarnation."""
    if cluster_id and hello.cluster_id and hello.cluster_id != cluster_id:
        return _refusal(
            ClusterIdMismatchError,
            f"{_who(hello)} belongs to cluster {hello.cluster_id:#x}, node {own_id} to {cluster_id:#x}; "
            "check the addresses",
        )
    if hello.channel is Channel.CLIENT:
        return None
    if hello.node_id == own_id:
        return _refusal(IdentityError, f"node id {own_id} is taken: two nodes were started with it")
    if not configuration.members or (
        not led and hello.cluster_id and configuration.cluster_id in (0, hello.cluster_id)
    ):
        return None
    member = configuration.member(hello.node_id) or committed.member(hello.node_id)
    if member is None:
        return _refusal(
            NotMemberError,
            f"node {hello.node_id} is not a member of the cluster that node {own_id} belongs to; add it first",
        )
    if member.incarnation and member.incarnation != hello.incarnation:
        return _refusal(
            IncarnationMismatchError,
            f"node {hello.node_id} is a member with another data directory (incarnation {member.incarnation:#x}, not "
            f"{hello.incarnation:#x}). If that one still exists as it was, start the node on it, never on an older "
            "copy, which has forgotten what it acknowledged; else remove the member and add this one as a new one",
        )
    return None


def _who(hello: Hello) -> str:
    return "the client" if hello.channel is Channel.CLIENT else f"node {hello.node_id}"


def _refusal(error: type[IdentityError], text: str) -> Refusal:
    return Refusal(error.code, text)


class Peers:
    """The other members as this node's connections see them."""

    def __init__(
        self, settings: ReplicaSettings, raft: Raft, network: Network, cluster: Callable[[], ClusterId]
    ) -> None:
        self._settings = settings
        self._raft = raft
        self._network = network
        self._cluster = cluster
        self._connected_to: tuple[Configuration, Configuration] | None = None
        self._addresses: dict[NodeId, str] = {}
        self._refusals = Refusals()
        self._was_member = self._is_named(raft.configuration)
        self.reachable: dict[NodeId, bool] = {}

    def refresh(self, now: Nanoseconds) -> None:
        """Keep connections to the members of the configuration in force and of the committed one, nobody else."""
        configuration, committed = self._raft.configuration, self._raft.committed_configuration
        known = self._connected_to
        if self._refusals.any and self._raft.is_led(now):
            self._refusals = Refusals()
        if known is not None and configuration is known[0] and committed is known[1]:
            self._drop_strangers(configuration, now)
            return
        self._connected_to = (configuration, committed)
        own = self._settings.node_id
        members = (*committed.members, *configuration.members)
        addresses = {member.id: member.address for member in members if member.id != own}
        self._addresses = addresses
        kept, leader = dict(addresses), self._raft.leader
        if self.reachable.get(leader):
            # Whoever leads this node through old changes may have become a member by later ones. It dials.
            kept.setdefault(leader, "")
        self.reachable = {node: self.reachable.get(node, False) for node in kept}
        self._network.set_peers(kept)
        self._raft.peers_dropped(kept)

    def _drop_strangers(self, configuration: Configuration, now: Nanoseconds) -> None:
        """Who was let in while nobody led this node, and is no member as far as its leader tells, has to go."""
        if (
            len(self.reachable) == len(self._addresses)
            or not configuration.members
            or not self._raft.is_led(now)
        ):
            return
        for peer in list(self.reachable):
            if peer not in self._addresses and peer != self._raft.leader:
                del self.reachable[peer]
                self._network.disconnect(peer)

    def hello(self, channel: Channel) -> Hello:
        """How this node introduces itself."""
        settings = self._settings
        return Hello(channel, self._cluster(), settings.node_id, settings.incarnation, settings.address)

    def admit(self, hello: Hello, now: Nanoseconds) -> Refusal | None:
        """Whether the other side of a new connection may speak as the member that it says it is."""
        raft = self._raft
        own = self._settings.node_id
        led = raft.is_led(now) and hello.node_id != raft.leader
        refusal = admit(hello, own, self._cluster(), raft.configuration, raft.committed_configuration, led)
        if refusal is None and hello.channel is not Channel.CLIENT:
            self._raft.peer_incarnation(hello.node_id, hello.incarnation, now)
        return refusal

    def connected(self, peer: NodeId) -> None:
        """There is a way to the member: both sides have admitted each other."""
        self._refusals.accepted(peer)
        self.reachable[peer] = True

    def lost(self, peer: NodeId, now: Nanoseconds) -> None:
        """The connection to the member broke."""
        if peer in self._addresses:
            self.reachable[peer] = False
        else:
            self.reachable.pop(peer, None)
        self._raft.peer_unreachable(peer, now)

    def refused(self, peer: NodeId, refusal: Refusal, now: Nanoseconds) -> IdentityError | None:
        """The member does not want to talk to us. Returns the error to stop with, if that is final: not while somebody
        leads us, because then it is the other side that is behind, and not before we know that we became a member: our
        addition may have been rolled back, and whoever asked for it asks again."""
        raft, own, configuration = self._raft, self._settings.node_id, self._raft.configuration
        # Who goes in a joint step hears no more of it than that; those that stay know.
        voters = configuration.all_voters if own in configuration.voters else configuration.voters
        others = tuple(node for node in voters if node != own)
        error = self._refusals.refused(peer, refusal, others)
        if (
            refusal.code == IncarnationMismatchError.code
            and configuration.members
            and not configuration.cluster_id
        ):
            # A founder whose number is another's already: a wiped disk, which must not found a second cluster.
            return IncarnationMismatchError(f"{refusal.text} (said by node {peer})")
        if raft.is_led(now) or not (self._was_member or self._is_named(raft.committed_configuration)):
            return None
        return error

    def _is_named(self, configuration: Configuration) -> bool:
        """Whether this node is a member there, and not another one that had its number."""
        member = configuration.member(self._settings.node_id)
        return member is not None and member.incarnation in (0, self._settings.incarnation)

    def describe(self) -> str:
        """Which members can be reached, for an error's text."""
        if not self.reachable:
            return "this node knows no other members"
        up = [str(node) for node, ok in sorted(self.reachable.items()) if ok]
        down = [str(node) for node, ok in sorted(self.reachable.items()) if not ok]
        return f"reachable members: {', '.join(up) or 'none'}; unreachable: {', '.join(down) or 'none'}"


class Refusals:
    """What other members said of this node, and when that is final.

    One member may be behind and not know us yet, or know who was removed under our number; or its address may be
    somebody else's. So the node gives up only when a majority of the other voters have refused it since it last heard a
    leader. A node that was started to join knows no voters; whoever it asks to be added tells it if that can never be.
    """

    def __init__(self) -> None:
        self._said: dict[NodeId, Refusal] = {}

    @property
    def any(self) -> bool:
        """Somebody refuses."""
        return bool(self._said)

    def accepted(self, peer: NodeId) -> None:
        """The peer talks to us."""
        self._said.pop(peer, None)

    def refused(self, peer: NodeId, refusal: Refusal, others: tuple[NodeId, ...]) -> IdentityError | None:
        """Take note. Returns the error with which the node must stop, if it must."""
        error = IDENTITY_ERRORS.get(refusal.code)
        if error is None:
            return None
        self._said[peer] = refusal
        against = sum(1 for node in others if node in self._said)
        if against and against * 2 > len(others):
            return error(f"{refusal.text} (said by node {peer})")
        return None
