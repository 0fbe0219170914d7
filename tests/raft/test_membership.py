"""Changes of members against an oracle of plain sets, and the safety of each step by trying all majorities."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.configuration import Configuration, Member, validate_configuration
from d_engine.format.errors import MembershipError
from d_engine.raft.membership import (
    AddLearner,
    Bind,
    Change,
    Demote,
    Promote,
    Remove,
    SetAddress,
    enter,
    leave,
    target_of,
)
from d_engine.raft.quorum import Ballot, Electorate

IDS = tuple(range(1, 7))
KNOWN = {node: 100 + node for node in IDS}


@st.composite
def settled(draw: st.DrawFn) -> Configuration:
    voters = draw(st.sets(st.sampled_from(IDS), min_size=1, max_size=4))
    learners = draw(st.sets(st.sampled_from(IDS), max_size=3)) - voters
    read_only = draw(st.sets(st.sampled_from(IDS), max_size=2)) & learners
    members = tuple(Member(node, "", 100 + node) for node in sorted(voters | learners))
    return Configuration(
        7,
        members,
        tuple(sorted(voters)),
        learners=tuple(sorted(learners)),
        read_only=tuple(sorted(read_only)),
    )


def changes() -> st.SearchStrategy[list[Change]]:
    node = st.sampled_from(IDS)
    one: st.SearchStrategy[Change] = st.one_of(
        st.builds(AddLearner, st.builds(Member, node), st.booleans()),
        st.builds(Remove, node),
        st.builds(Promote, node),
        st.builds(Demote, node),
        st.builds(SetAddress, node, st.just("host:1")),
    )
    return st.lists(one, min_size=1, max_size=5)


def oracle(configuration: Configuration, steps: list[Change]) -> tuple[set[int], set[int], set[int]] | None:
    """Voters, learners and read-only learners that the steps ask for; None if one of them does not fit."""
    voters, learners = set(configuration.voters), set(configuration.learners)
    read_only = set(configuration.read_only)
    for step in steps:
        node = step.member.id if isinstance(step, AddLearner) else step.node_id
        member = node in voters | learners
        if isinstance(step, AddLearner):
            if member or configuration.member(node):
                return None
            learners.add(node)
            read_only |= {node} if step.read_only else set()
        elif not member:
            return None
        elif isinstance(step, Remove):
            voters, learners, read_only = voters - {node}, learners - {node}, read_only - {node}
        elif isinstance(step, Promote):
            if node in voters or node in read_only:
                return None
            voters, learners = voters | {node}, learners - {node}
        elif isinstance(step, Demote):
            if node in learners:
                return None
            voters, learners = voters - {node}, learners | {node}
    return (voters, learners, read_only) if voters else None


@given(settled(), changes())
def test_target_is_what_the_changes_ask_for(configuration: Configuration, steps: list[Change]) -> None:
    expected = oracle(configuration, steps)

    if expected is None:
        with pytest.raises(MembershipError):
            target_of(configuration, steps, KNOWN)
    else:
        target = target_of(configuration, steps, KNOWN)
        assert (set(target.voters), set(target.learners), set(target.read_only)) == expected


@given(settled(), changes())
def test_every_step_is_valid_and_ends_at_the_target(
    configuration: Configuration, steps: list[Change]
) -> None:
    if oracle(configuration, steps) is None:
        return
    target = target_of(configuration, steps, KNOWN)
    first = enter(configuration, target)

    validate_configuration(first)
    assert first.joint == (target.voters != configuration.voters)
    if first.joint:
        validate_configuration(leave(first))
        assert leave(first) == target
    else:
        assert first == target


def deciding_sets(configuration: Configuration) -> list[set[int]]:
    return [
        set(chosen)
        for size in range(len(IDS) + 1)
        for chosen in combinations(IDS, size)
        if Electorate(configuration).tally(dict.fromkeys(chosen, True)) is Ballot.WON
    ]


@given(settled(), changes())
def test_majorities_of_neighbouring_configurations_overlap(
    configuration: Configuration, steps: list[Change]
) -> None:
    """I9: overlapping majorities at every step."""
    if oracle(configuration, steps) is None:
        return
    target = target_of(configuration, steps, KNOWN)
    way = [configuration, enter(configuration, target), target]

    for before, after in pairwise(way):
        assert all(first & second for first in deciding_sets(before) for second in deciding_sets(after))


def test_voter_that_becomes_a_learner_waits_for_the_end_of_the_joint_state() -> None:
    before = Configuration(7, (Member(1, "", 1), Member(2, "", 1)), (1, 2))
    joint = enter(before, target_of(before, [Demote(2)], {}))

    assert (joint.voters, joint.outgoing, joint.learners, joint.learners_next) == ((1,), (1, 2), (), (2,))
    assert leave(joint).learners == (2,)


def test_removed_voter_stays_listed_until_the_joint_state_is_left() -> None:
    before = Configuration(7, (Member(1, "", 1), Member(2, "there", 1)), (1, 2))
    joint = enter(before, target_of(before, [Remove(2)], {}))

    assert joint.member(2) == Member(2, "there", 1)
    assert leave(joint).member(2) is None


def test_members_that_have_been_seen_are_bound_on_the_way() -> None:
    before = Configuration(7, (Member(1, "", 1), Member(2)), (1,), learners=(2,))

    assert target_of(before, [Promote(2)], {2: 102}).member(2) == Member(2, "", 102)
    assert target_of(before, [AddLearner(Member(3))], {3: 103}).member(3) == Member(3, "", 103)
    with pytest.raises(MembershipError):
        target_of(before, [Promote(2)], {})


def test_new_voter_that_is_not_bound_is_let_in_where_the_others_are_a_majority() -> None:
    """Else nothing could be decided until it shows itself."""
    one = Configuration(7, (Member(1, "", 1),), (1,))
    three = Configuration(7, (Member(1, "", 1), Member(2, "", 1), Member(3, "", 1)), (1, 2, 3))
    replace_3: list[Change] = [Remove(3), AddLearner(Member(4)), Promote(4)]
    replace_1: list[Change] = [Remove(1), AddLearner(Member(4)), Promote(4)]

    assert target_of(three, replace_3, {}).voters == (1, 2, 4)
    with pytest.raises(MembershipError, match="no majority of nodes 1, 4"):
        target_of(one, [AddLearner(Member(4)), Promote(4)], {})
    with pytest.raises(MembershipError, match="no majority of node 4"):
        target_of(one, replace_1, {})


def test_step_never_puts_another_data_directory_under_the_id_of_a_voter() -> None:
    """The voters' ids would stay the same, their promises would not: two majorities could be disjoint."""
    before = Configuration(7, (Member(1, "", 1), Member(2, "", 1), Member(3, "", 1)), (1, 2, 3))

    with pytest.raises(MembershipError, match="in one step"):
        target_of(before, [Remove(3), AddLearner(Member(3, "", 9)), Promote(3)], {})


def test_demoted_voter_is_marked_until_it_is_promoted() -> None:
    before = Configuration(7, (Member(1, "", 1), Member(2, "", 1)), (1, 2))
    joint = enter(before, target_of(before, [Demote(2)], {}))
    demoted = leave(joint)

    assert (joint.demoted, demoted.demoted) == ((2,), (2,))
    assert target_of(demoted, [Promote(2)], {}).demoted == ()
    assert target_of(demoted, [Remove(2)], {}).demoted == ()


def test_bound_member_is_not_bound_again() -> None:
    before = Configuration(7, (Member(1, "", 1),), (1,))

    with pytest.raises(MembershipError):
        target_of(before, [Bind(1, 2)], {})
    assert target_of(before, [Bind(1, 1)], {}) == before


def test_too_many_members_are_refused() -> None:
    before = Configuration(
        7, tuple(Member(node, "", 1) for node in range(1, 65)), (1,), learners=tuple(range(2, 65))
    )

    with pytest.raises(MembershipError):
        target_of(before, [AddLearner(Member(65))], {})
