"""What must fit together across fields. A rule yields `(keys, text)` for what it finds wrong."""

import ipaddress
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeAlias

from d_engine.engine.config_sections import ClusterConfig, LimitsConfig, NodeConfig, RaftConfig
from d_engine.format.limits import MAX_COMMAND_BYTES
from d_engine.runtime.address import TcpAddress, parse_address

Problem: TypeAlias = tuple[tuple[str, ...], str]

_HEARTBEATS_PER_ELECTION = 3
_WORST_COMMAND_OVERHEAD_BYTES = 8


def find_problem(
    node: NodeConfig, cluster: ClusterConfig, raft: RaftConfig, limits: LimitsConfig
) -> Problem | None:
    """The first rule that is broken."""
    problems = chain(timing(raft), sizes(limits), *(rule(node, cluster) for rule in CLUSTER_RULES))
    return next(problems, None)


def timing(raft: RaftConfig) -> Iterator[Problem]:
    """A lost heartbeat must not cost the leader its office, and elections must differ in length."""
    least = _HEARTBEATS_PER_ELECTION * raft.heartbeat_ms
    if raft.election_min_ms < least:
        yield (
            ("raft.election_min_ms", "raft.heartbeat_ms"),
            f"raft.election_min_ms is {raft.election_min_ms}, below {_HEARTBEATS_PER_ELECTION} x raft.heartbeat_ms"
            f" = {least}: a follower would stand for election because two heartbeats were late",
        )
    if raft.election_max_ms <= raft.election_min_ms:
        yield (
            ("raft.election_max_ms", "raft.election_min_ms"),
            f"raft.election_max_ms is {raft.election_max_ms}, not above raft.election_min_ms = {raft.election_min_ms}:"
            " nodes draw their time-outs between the two, so that they do not all stand at once",
        )


def sizes(limits: LimitsConfig) -> Iterator[Problem]:
    """The largest command, a comparison with an old and a new value, must fit into one."""
    worst = limits.max_key_bytes + 2 * limits.max_value_bytes + _WORST_COMMAND_OVERHEAD_BYTES
    if worst > MAX_COMMAND_BYTES:
        yield (
            ("limits.max_value_bytes", "limits.max_key_bytes"),
            f"limits.max_value_bytes is {limits.max_value_bytes}: a compare_and_swap of two such values and a key of"
            f" {limits.max_key_bytes} bytes has {worst} bytes, a command at most {MAX_COMMAND_BYTES}",
        )


def one_way_in(node: NodeConfig, cluster: ClusterConfig) -> Iterator[Problem]:
    """A node founds a cluster or joins one."""
    if cluster.initial and cluster.join:
        yield (
            ("cluster.join", "cluster.initial"),
            "cluster.initial and cluster.join are both given: the first founds a cluster, the second joins one",
        )


def read_only_joins(node: NodeConfig, cluster: ClusterConfig) -> Iterator[Problem]:
    """Only a learner can be read-only, and only who joins begins as a learner."""
    if cluster.read_only and not cluster.join:
        yield (
            ("cluster.read_only", "cluster.join"),
            "cluster.read_only is for a node that joins a cluster; set cluster.join to the addresses of its members",
        )


def initial_members(node: NodeConfig, cluster: ClusterConfig) -> Iterator[Problem]:
    """The founding members are distinct, and this node is one of them."""
    if not cluster.initial:
        return
    ids = [member.id for member in cluster.initial]
    addresses = [member.address for member in cluster.initial]
    for name, values in (("id", list(map(str, ids))), ("address", addresses)):
        for value in values:
            if values.count(value) > 1:
                yield ("cluster.initial",), f"cluster.initial has the {name} {value} more than once"
    if node.id not in ids:
        yield (
            ("node.id", "cluster.initial"),
            f"node.id is {node.id}, but cluster.initial has {', '.join(map(str, ids))} only:"
            " all founding members must be listed, this one too",
        )
    own = address_in_initial(node, cluster)
    if own and cluster.advertise and own != cluster.advertise:
        yield (
            ("cluster.advertise", "cluster.initial"),
            f"cluster.advertise is {cluster.advertise!r}, but cluster.initial has {own!r} for this node",
        )


def listening(node: NodeConfig, cluster: ClusterConfig) -> Iterator[Problem]:
    """Whoever has peers must be reachable by them."""
    if not cluster.listen:
        if cluster.join or len(cluster.initial) > 1:
            yield (
                ("cluster.listen",),
                "cluster.listen is empty, so the other members cannot reach this node; set it to an address of this"
                " machine, most often the one that the others know it by",
            )
        return
    if cluster.listen == cluster.client_listen:
        yield (
            ("cluster.client_listen", "cluster.listen"),
            f"cluster.client_listen and cluster.listen are both {cluster.listen!r}; leave cluster.client_listen empty"
            " to serve members and clients at one address",
        )
    peers = cluster.join or len(cluster.initial) > 1
    if peers and not cluster.advertise and not cluster.initial and not _can_be_dialled(cluster.listen):
        yield (
            ("cluster.advertise", "cluster.listen"),
            f"cluster.listen is {cluster.listen!r}, which others cannot dial; set cluster.advertise to the address by"
            " which they reach this node",
        )


def secure_listening(node: NodeConfig, cluster: ClusterConfig) -> Iterator[Problem]:
    """There is no encryption yet, so the network must be declared to be trusted."""
    for key, text in (("cluster.listen", cluster.listen), ("cluster.client_listen", cluster.client_listen)):
        if text and not cluster.insecure_listen and not _is_local(text):
            yield (
                (key, "cluster.insecure_listen"),
                f"{key} is {text!r}, which is not a loopback address, and connections are not encrypted;"
                " if the network is trusted, set cluster.insecure_listen = true",
            )


CLUSTER_RULES: tuple[Callable[[NodeConfig, ClusterConfig], Iterator[Problem]], ...] = (
    one_way_in,
    read_only_joins,
    initial_members,
    listening,
    secure_listening,
)


def address_in_initial(node: NodeConfig, cluster: ClusterConfig) -> str:
    """The address that the founding members have for this node, or an empty text."""
    return next((member.address for member in cluster.initial if member.id == node.id), "")


def _is_local(text: str) -> bool:
    """True unless the address is known to be reachable from elsewhere. Names are not looked up here: the listener
    does that, and refuses what turns out not to be loopback."""
    address = parse_address(text)
    if not isinstance(address, TcpAddress):
        return True
    try:
        return ipaddress.ip_address(address.host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def _can_be_dialled(text: str) -> bool:
    """False for "any address" and "any port"."""
    address = parse_address(text)
    if not isinstance(address, TcpAddress):
        return True
    try:
        return address.port != 0 and not ipaddress.ip_address(address.host.partition("%")[0]).is_unspecified
    except ValueError:
        return address.port != 0
