"""Majorities against an oracle that tries every subset of nodes."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.configuration import Configuration, Member
from d_engine.raft.quorum import Ballot, Electorate

IDS = tuple(range(1, 8))


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    halves = st.sets(st.sampled_from(IDS), min_size=1, max_size=5)
    voters, outgoing = draw(halves), draw(st.one_of(st.just(set[int]()), halves))
    unbound = draw(st.sets(st.sampled_from(IDS), max_size=3))
    members = tuple(Member(node, "", 0 if node in unbound else 100) for node in sorted(voters | outgoing))
    cluster_id = draw(st.sampled_from((0, 7)))
    return Configuration(cluster_id, members, tuple(sorted(voters)), tuple(sorted(outgoing)))


def decides(configuration: Configuration, yes: set[int]) -> bool:
    """The definition: those who said yes and count are more than half of each half."""
    counting = {
        member.id
        for member in configuration.members
        if configuration.cluster_id == 0 or member.incarnation != 0
    }
    halves = [half for half in (configuration.voters, configuration.outgoing) if half]
    return all(len(counting & yes & set(half)) * 2 > len(half) for half in halves)


@given(configurations(), st.dictionaries(st.sampled_from(IDS), st.integers(0, 9)))
def test_reached_is_the_highest_value_that_a_deciding_set_has(
    configuration: Configuration, values: dict[int, int]
) -> None:
    expected = max(
        level
        for level in range(10)
        if level == 0 or decides(configuration, {node for node, value in values.items() if value >= level})
    )

    assert Electorate(configuration).reached(values) == expected


@given(configurations(), st.dictionaries(st.sampled_from(IDS), st.booleans()))
def test_tally_is_won_or_lost_as_soon_as_it_is_certain(
    configuration: Configuration, votes: dict[int, bool]
) -> None:
    yes = {node for node, vote in votes.items() if vote}
    open_votes = set(IDS) - set(votes)
    ballot = Electorate(configuration).tally(votes)

    if decides(configuration, yes):
        assert ballot is Ballot.WON
    elif not decides(configuration, yes | open_votes):
        assert ballot is Ballot.LOST
    else:
        assert ballot is Ballot.PENDING


@given(configurations())
def test_any_two_deciding_sets_share_a_node(configuration: Configuration) -> None:
    nodes = configuration.all_voters
    deciding = [
        set(chosen)
        for size in range(len(nodes) + 1)
        for chosen in combinations(nodes, size)
        if Electorate(configuration).tally(dict.fromkeys(chosen, True)) is Ballot.WON
    ]

    assert all(first & second for first in deciding for second in deciding)


@given(configurations(), st.sampled_from(IDS))
def test_sole_voter_decides_alone(configuration: Configuration, node: int) -> None:
    alone = Electorate(configuration).is_sole(node)

    assert alone == (
        decides(configuration, {node}) and configuration.all_voters == (node,) and not configuration.joint
    )


def test_nobody_decides_for_a_cluster_that_is_not_known() -> None:
    electorate = Electorate(Configuration(0, (), ()))

    assert electorate.tally({1: True}) is Ballot.LOST
    assert electorate.reached({1: 5}) == 0


def test_who_shows_another_data_directory_does_not_count() -> None:
    """Not as its predecessor; and not as a member that is not bound yet."""
    members = (Member(1, "", 101), Member(2, "", 102), Member(3, "", 0))
    configuration = Configuration(7, members, (1, 2, 3))

    assert Electorate(configuration, {1: 101}).bound == (1, 2)
    assert Electorate(configuration, {1: 101, 2: 202, 3: 103}).bound == (1,)
    assert Electorate(configuration, {1: 201}).bound == (2,)
