"""Who belongs to the cluster: a type that is joint from the first day.

Joint consensus (Raft dissertation, section 4.3): while `outgoing` is not empty the cluster is between two sets of
voters, and every decision needs a majority of `voters` *and* of `outgoing`. Any change of members is one step: old
set, joint set, new set. A configuration takes effect when it is appended to the log, not when it is committed, and
is rolled back when the entry is cut off.
"""

import msgspec
from msgspec import Struct

from d_engine.format.errors import MalformedError
from d_engine.format.ids import ClusterId, Incarnation, NodeId
from d_engine.format.limits import MAX_ADDRESS_LENGTH, MAX_MEMBERS


class Member(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One member as the cluster knows it. `incarnation` 0 means: not bound to a data directory yet."""

    id: NodeId
    address: str = ""
    incarnation: Incarnation = 0


class Configuration(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The members, and who of them decides.

    `members` lists everybody once, by rising id. `voters` decide; while `outgoing` is not empty, the old voters must
    agree too. `learners` receive the log and decide nothing; `learners_next` are old voters that become learners when
    the joint state is left. `read_only` are the learners that must never be promoted, `demoted` those that were voters
    and become voters again only when somebody asks for it.
    """

    cluster_id: ClusterId
    members: tuple[Member, ...]
    voters: tuple[NodeId, ...]
    outgoing: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    learners_next: tuple[NodeId, ...] = ()
    read_only: tuple[NodeId, ...] = ()
    lease_reads: bool = False
    demoted: tuple[NodeId, ...] = ()

    @property
    def joint(self) -> bool:
        """True while the cluster is between two sets of voters."""
        return bool(self.outgoing)

    def member(self, node_id: NodeId) -> Member | None:
        """The member of that id, if there is one."""
        for member in self.members:
            if member.id == node_id:
                return member
        return None

    def is_voter(self, node_id: NodeId) -> bool:
        """True if the node decides, in either half of a joint configuration."""
        return node_id in self.voters or node_id in self.outgoing

    @property
    def all_voters(self) -> tuple[NodeId, ...]:
        """The voters of both halves, by rising id."""
        if not self.outgoing:
            return self.voters
        return tuple(sorted({*self.voters, *self.outgoing}))


_DECODER = msgspec.msgpack.Decoder(Configuration)
_ENCODER = msgspec.msgpack.Encoder()


def encode_configuration(configuration: Configuration) -> bytes:
    """The payload of a configuration entry."""
    return _ENCODER.encode(configuration)


def decode_configuration(data: bytes | memoryview) -> Configuration:
    """Read and validate. Raises `MalformedError`."""
    try:
        configuration = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a configuration does not decode: {error}") from None
    validate_configuration(configuration)
    return configuration


def validate_configuration(configuration: Configuration) -> None:
    """Raise `MalformedError` unless the parts fit together."""
    ids = tuple(member.id for member in configuration.members)
    if len(ids) > MAX_MEMBERS or ids != tuple(sorted({*ids})) or 0 in ids:
        raise MalformedError(f"the members {ids} are not up to {MAX_MEMBERS} distinct rising ids above 0")
    for member in configuration.members:
        if len(member.address) > MAX_ADDRESS_LENGTH:
            raise MalformedError(f"member {member.id} has an address of {len(member.address)} characters")
    roles = (
        configuration.voters,
        configuration.outgoing,
        configuration.learners,
        configuration.learners_next,
    )
    for role in (*roles, configuration.read_only, configuration.demoted):
        if role != tuple(sorted({*role})) or any(node not in ids for node in role):
            raise MalformedError(f"{role} are not distinct rising members of {ids}")
    if not configuration.voters:
        raise MalformedError("a configuration has no voters")
    voters = configuration.all_voters
    if any(node in voters for node in configuration.learners):
        raise MalformedError("a learner is a voter too")
    if any(node not in configuration.outgoing for node in configuration.learners_next):
        raise MalformedError("only an outgoing voter can become a learner later")
    if any(node in configuration.voters for node in configuration.learners_next):
        raise MalformedError("an incoming voter cannot become a learner")
    learners = (*configuration.learners, *configuration.learners_next)
    if any(node not in learners for node in configuration.demoted):
        raise MalformedError("only learners can have been demoted")
    if any(node not in voters and node not in configuration.learners for node in ids):
        raise MalformedError("a member is neither voter nor learner")
