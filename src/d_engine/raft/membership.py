"""Changes of members, as pure arithmetic on configurations (Raft dissertation, chapter 4; joint consensus: 4.3).

A change names what is to be different; any number of them make one step. If the set of voters stays the same the step
is one configuration entry. If it differs, the step goes through a joint configuration, in which the old voters
(`outgoing`) and the new ones (`voters`) must both agree, and a second entry leaves it:

    old voters  --enter-->  outgoing = old, voters = new  --leave-->  new voters

Safety: majorities of *old* and of *joint* overlap in *old*, those of *joint* and of *new* overlap in *new*; *old* and
*new* are never in force side by side, because *new* is appended only once *joint* is committed.

A voter counts only if it is bound to a data directory (`d_engine.raft.quorum`). New voters that are not bound yet are
let in only where the bound ones are a majority without them: else nothing could be decided any more. And a step never
puts another data directory under the id of a member: that would be another voter without a joint state.

A voter that becomes a learner stays a voter of the outgoing half until the joint state is left (`learners_next`): it
must not be both at once. A member that goes stays listed, with its address, as long as the outgoing half needs it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from msgspec.structs import replace

from d_engine.format.configuration import Configuration, Member, validate_configuration
from d_engine.format.errors import MalformedError, MembershipError
from d_engine.format.ids import Incarnation, NodeId

NO_MEMBERS = Configuration(0, (), ())
"""What a node knows of a cluster that it has not joined yet."""


@dataclass(frozen=True, slots=True)
class AddLearner:
    """A new member that receives the log and decides nothing. A `read_only` one can never be promoted."""

    member: Member
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Remove:
    """A member goes, whatever it was."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class Promote:
    """A learner becomes a voter."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class Demote:
    """A voter becomes a learner, until somebody asks for the opposite."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class Bind:
    """An unbound member's data directory is known now."""

    node_id: NodeId
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class SetAddress:
    """A member is found elsewhere."""

    node_id: NodeId
    address: str


Change: TypeAlias = AddLearner | Remove | Promote | Demote | Bind | SetAddress


class _Draft:
    """A configuration outside joint states, being changed."""

    def __init__(self, configuration: Configuration) -> None:
        self.members = {member.id: member for member in configuration.members}
        self.voters = dict.fromkeys(configuration.voters, True)
        self.learners = dict.fromkeys(configuration.learners, True)
        self.read_only = dict.fromkeys(configuration.read_only, True)
        self.demoted = dict.fromkeys(configuration.demoted, True)
        self._before = configuration

    def member(self, node_id: NodeId) -> Member:
        member = self.members.get(node_id)
        if member is None:
            raise MembershipError(f"node {node_id} is not a member")
        return member

    def bind(self, node_id: NodeId, known: Mapping[NodeId, Incarnation]) -> None:
        member = self.members.get(node_id)
        if member is not None and member.incarnation == 0 and node_id in known:
            self.members[node_id] = replace(member, incarnation=known[node_id])

    def apply(self, change: Change) -> None:
        match change:
            case AddLearner():
                self._add(change)
            case Remove(node_id):
                self.member(node_id)
                for role in (self.voters, self.learners, self.read_only, self.demoted):
                    role.pop(node_id, None)
                del self.members[node_id]
            case Promote(node_id):
                self._promote(node_id)
            case Demote(node_id):
                self.member(node_id)
                if self.voters.pop(node_id, None) is None:
                    raise MembershipError(f"node {node_id} is no voter")
                self.learners[node_id] = self.demoted[node_id] = True
            case Bind(node_id, incarnation):
                if self.member(node_id).incarnation not in (0, incarnation):
                    raise MembershipError(f"node {node_id} is bound to another data directory")
                self.members[node_id] = replace(self.members[node_id], incarnation=incarnation)
            case SetAddress(node_id, address):
                self.members[node_id] = replace(self.member(node_id), address=address)
            case _:
                assert_never(change)

    def _add(self, change: AddLearner) -> None:
        node_id = change.member.id
        if node_id in self.members:
            raise MembershipError(f"node {node_id} is a member already")
        if self._before.member(node_id) is not None:
            raise MembershipError(
                f"node {node_id} cannot be removed and added in one step; remove it, then add it"
            )
        self.members[node_id] = change.member
        self.learners[node_id] = True
        if change.read_only:
            self.read_only[node_id] = True

    def _promote(self, node_id: NodeId) -> None:
        self.member(node_id)
        if node_id in self.read_only:
            raise MembershipError(f"node {node_id} was added as read-only and can never be a voter")
        if self.learners.pop(node_id, None) is None:
            raise MembershipError(f"node {node_id} is no learner")
        self.demoted.pop(node_id, None)
        self.voters[node_id] = True

    def unbound(self) -> list[NodeId]:
        """Voters that would not count."""
        return [node_id for node_id in self.voters if self.members[node_id].incarnation == 0]


def target_of(
    configuration: Configuration, changes: Sequence[Change], known: Mapping[NodeId, Incarnation]
) -> Configuration:
    """The configuration, not joint, that the changes ask for.

    `known` are incarnations that members have shown; unbound members that the changes name are bound on the way.
    Raises `MembershipError` when a change does not fit, and when no voter would be left.
    """
    draft = _Draft(configuration)
    for change in changes:
        if isinstance(change, Promote):
            draft.bind(change.node_id, known)
        draft.apply(change)
        if isinstance(change, AddLearner):
            draft.bind(change.member.id, known)
    if not draft.voters:
        raise MembershipError("the change would leave no voter")
    unbound = draft.unbound()
    if draft.voters != dict.fromkeys(configuration.voters, True) and 2 * len(unbound) >= len(draft.voters):
        raise MembershipError(
            f"{words_of(unbound)} did not show a data directory yet, so that no majority of "
            f"{words_of(draft.voters)} would count; start what is missing, then try again"
        )
    target = replace(
        configuration,
        members=tuple(draft.members[node_id] for node_id in sorted(draft.members)),
        voters=tuple(sorted(draft.voters)),
        learners=tuple(sorted(draft.learners)),
        read_only=tuple(sorted(draft.read_only)),
        demoted=tuple(sorted(draft.demoted)),
    )
    try:
        validate_configuration(target)
    except MalformedError as error:
        raise MembershipError(f"the change does not make a valid configuration: {error}") from None
    return target


def enter(configuration: Configuration, target: Configuration) -> Configuration:
    """The first step from `configuration` to `target`: joint if and only if the voters differ."""
    if target.voters == configuration.voters:
        return target
    members = {member.id: member for member in configuration.members if member.id in configuration.voters}
    members.update((member.id, member) for member in target.members)
    outgoing = configuration.voters
    return replace(
        target,
        members=tuple(members[node_id] for node_id in sorted(members)),
        outgoing=outgoing,
        learners=tuple(node_id for node_id in target.learners if node_id not in outgoing),
        learners_next=tuple(node_id for node_id in target.learners if node_id in outgoing),
    )


def leave(configuration: Configuration) -> Configuration:
    """The second step: what a joint configuration becomes once it is committed."""
    learners = tuple(sorted((*configuration.learners, *configuration.learners_next)))
    staying = (*configuration.voters, *learners)
    return replace(
        configuration,
        members=tuple(member for member in configuration.members if member.id in staying),
        outgoing=(),
        learners=learners,
        learners_next=(),
        read_only=tuple(node_id for node_id in configuration.read_only if node_id in staying),
    )


def words_of(nodes: Iterable[NodeId]) -> str:
    """Nodes in an error's text."""
    named = [str(node) for node in sorted(nodes)]
    return f"node{'s' if len(named) > 1 else ''} {', '.join(named)}"


def describe_step(before: Configuration, after: Configuration) -> str:
    """What a configuration changes, for an error's text."""
    if after.joint:
        return f"voters change from {words_of(after.outgoing)} to {words_of(after.voters)}"
    if before.joint:
        return f"voters have changed from {words_of(before.outgoing)} to {words_of(after.voters)}"
    known = {member.id: member for member in before.members}
    words = []
    for member in after.members:
        earlier = known.pop(member.id, None)
        if earlier is None:
            words.append(f"node {member.id} is added")
        elif earlier.address != member.address:
            words.append(f"node {member.id} moves to {member.address}")
        elif earlier.incarnation != member.incarnation:
            words.append(f"node {member.id} is bound to its data directory")
    words += [f"node {node_id} is removed" for node_id in known]
    return ", ".join(words) or "nothing changes"
