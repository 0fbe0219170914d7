"""Examples and strategies of everything that travels, for tests of the formats."""

from hypothesis import strategies as st

from d_engine.format.configuration import Configuration, Member
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.group import encode_group
from d_engine.format.hello import Channel, Greeting, Hello, Refusal
from d_engine.format.ids import MAX_LOG_INDEX, MAX_NODE_ID, MAX_TERM, MAX_U63
from d_engine.format.limits import MAX_ADDRESS_LENGTH
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    ChangeRequest,
    ChangeResponse,
    DigestReport,
    Forward,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    MemberChange,
    PeerMessage,
    ReadRequest,
    ReadResponse,
    SnapshotChunk,
    SnapshotMeta,
    SnapshotRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from d_engine.format.requests import (
    Failure,
    GroupResults,
    Manage,
    Managed,
    OpenSession,
    ReadBatch,
    ReadResults,
    Request,
    Response,
    SessionOpened,
    WriteGroup,
)

THREE = Configuration(
    cluster_id=0x1234,
    members=(Member(1, "10.0.0.1:7000", 11), Member(2, "10.0.0.2:7000", 22), Member(3, "10.0.0.3:7000")),
    voters=(1, 2),
    learners=(3,),
)
JOINT = Configuration(
    cluster_id=0x1234,
    members=(Member(1), Member(2), Member(3), Member(4)),
    voters=(1, 2),
    outgoing=(1, 3),
    learners=(4,),
    learners_next=(3,),
    read_only=(4,),
    lease_reads=True,
)

terms = st.integers(0, MAX_TERM)
indexes = st.integers(0, MAX_LOG_INDEX)
counts = st.integers(0, MAX_U63)
node_ids = st.integers(0, MAX_NODE_ID)
texts = st.text(max_size=50)
payloads = st.binary(max_size=200)


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Anything that `validate_configuration` lets through."""
    ids = draw(st.lists(st.integers(1, MAX_NODE_ID), min_size=1, max_size=9, unique=True).map(sorted))
    roles = [draw(st.sampled_from("vobl" if number else "vb")) for number in range(len(ids))]
    voters = tuple(node for node, role in zip(ids, roles, strict=True) if role in "vb")
    outgoing = tuple(node for node, role in zip(ids, roles, strict=True) if role in "ob")
    learners = tuple(node for node, role in zip(ids, roles, strict=True) if role == "l")
    next_ones = tuple(node for node in outgoing if node not in voters and draw(st.booleans()))
    return Configuration(
        cluster_id=draw(counts),
        members=tuple(Member(node, draw(st.text(max_size=MAX_ADDRESS_LENGTH)), draw(counts)) for node in ids),
        voters=voters,
        outgoing=outgoing,
        learners=learners,
        learners_next=next_ones,
        read_only=tuple(node for node in learners if draw(st.booleans())),
        lease_reads=draw(st.booleans()),
        demoted=tuple(node for node in sorted((*learners, *next_ones)) if draw(st.booleans())),
    )


@st.composite
def entries(draw: st.DrawFn, term: int | None = None, index: int | None = None) -> Entry:
    return Entry.create(
        draw(st.sampled_from(EntryKind)),
        draw(st.integers(1, MAX_TERM)) if term is None else term,
        draw(st.integers(1, MAX_LOG_INDEX)) if index is None else index,
        draw(counts),
        draw(st.lists(payloads, max_size=3)),
        draw(st.integers(0, 2**32 - 1)),
    )


@st.composite
def appends(draw: st.DrawFn) -> AppendRequest:
    prev_index = draw(st.integers(0, MAX_LOG_INDEX - 5))
    prev_term = draw(terms)
    rising = sorted(draw(st.lists(st.integers(max(prev_term, 1), MAX_TERM), max_size=5)))
    following = tuple(draw(entries(term, prev_index + number)) for number, term in enumerate(rising, start=1))
    term = draw(st.integers(rising[-1] if rising else prev_term, MAX_TERM))
    return AppendRequest(term, prev_index, prev_term, draw(indexes), following)


greetings: st.SearchStrategy[Greeting] = st.one_of(
    st.builds(Hello, st.sampled_from(Channel), counts, node_ids, counts, texts),
    st.builds(Refusal, texts, texts),
)
snapshot_metas = st.builds(SnapshotMeta, indexes, terms, configurations())
messages: st.SearchStrategy[PeerMessage] = st.one_of(
    st.builds(VoteRequest, terms, indexes, terms, st.booleans(), st.booleans()),
    st.builds(VoteResponse, terms, st.booleans(), st.booleans()),
    appends(),
    st.builds(AppendResponse, terms, indexes, indexes, indexes, terms),
    st.builds(Heartbeat, terms, counts, indexes, counts),
    st.builds(HeartbeatResponse, terms, counts, st.booleans(), indexes),
    st.builds(ReadRequest, terms, counts),
    st.builds(ReadResponse, terms, counts, indexes),
    st.builds(TimeoutNow, terms),
    st.builds(InstallSnapshot, terms, snapshot_metas),
    st.builds(Forward, st.lists(payloads, max_size=4).map(tuple)),
    st.builds(
        ChangeRequest,
        counts,
        st.lists(
            st.builds(MemberChange, texts, st.builds(Member, node_ids, texts, counts), st.booleans()),
            min_size=1,
            max_size=3,
        ).map(tuple),
        st.booleans(),
    ),
    st.builds(ChangeResponse, counts, texts, texts),
    st.builds(SnapshotRequest, indexes, terms, counts, counts),
    st.builds(SnapshotChunk, indexes, terms, counts, counts, payloads, payloads),
    st.builds(DigestReport, indexes, st.binary(min_size=16, max_size=16)),
)
tuples_of_bytes = st.lists(payloads, max_size=4).map(tuple)
requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(OpenSession, counts, counts),
    st.builds(WriteGroup, counts, counts, payloads),
    st.builds(ReadBatch, counts, counts, st.integers(0, 2), counts, tuples_of_bytes),
    st.builds(Manage, counts, counts, texts, payloads),
)
responses: st.SearchStrategy[Response] = st.one_of(
    st.builds(SessionOpened, counts, counts),
    st.builds(GroupResults, counts, counts, tuples_of_bytes),
    st.builds(ReadResults, counts, tuples_of_bytes),
    st.builds(Managed, counts, payloads),
    st.builds(Failure, counts, texts, texts),
)
groups = st.builds(
    lambda session, number, floor, commands: encode_group(session, number, min(floor, number), commands),
    st.integers(1, MAX_U63),
    st.integers(1, MAX_U63),
    counts,
    st.lists(payloads, max_size=5),
)
