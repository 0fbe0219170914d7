"""Whatever can be said can be read back as it was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.configuration import (
    Configuration,
    decode_configuration,
    encode_configuration,
    validate_configuration,
)
from d_engine.format.entry import ENTRY_HEADER_BYTES, Entry, EntryKind, encoded_size
from d_engine.format.frames import FRAME_HEADER_BYTES, FrameKind, decode_frame, encode_frame, frame_size
from d_engine.format.group import (
    GROUP_HEADER_BYTES,
    decode_group,
    decode_groups,
    encode_group,
    encode_open_session,
    peek_group,
)
from d_engine.format.hello import Greeting, decode_greeting, encode_greeting
from d_engine.format.ids import MAX_U63
from d_engine.format.messages import AppendRequest, PeerMessage, decode_message, encode_message
from d_engine.format.requests import (
    Request,
    Response,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from tests.format import samples


@given(samples.greetings)
def test_greeting(greeting: Greeting) -> None:
    assert decode_greeting(encode_greeting(greeting)) == greeting


@given(samples.configurations())
def test_configuration(configuration: Configuration) -> None:
    validate_configuration(configuration)
    assert decode_configuration(encode_configuration(configuration)) == configuration
    assert configuration.joint == bool(configuration.outgoing)
    assert configuration.all_voters == tuple(sorted({*configuration.voters, *configuration.outgoing}))
    for member in configuration.members:
        assert configuration.member(member.id) is member
        assert configuration.is_voter(member.id) == (member.id in configuration.all_voters)
    assert configuration.member(0) is None


@given(samples.messages)
def test_message(message: PeerMessage) -> None:
    head, tail = encode_message(message)
    assert decode_message(head, b"".join(tail)) == message
    assert decode_message(memoryview(head), memoryview(b"".join(tail))) == message


@given(samples.appends())
def test_the_tail_of_an_append_is_its_entries_bytes(message: AppendRequest) -> None:
    _, tail = encode_message(message)
    assert all(part is entry.data for part, entry in zip(tail, message.entries, strict=True))


@given(samples.requests, samples.responses)
def test_requests_and_responses(request: Request, response: Response) -> None:
    assert decode_request(encode_request(request)) == request
    assert decode_response(encode_response(response)) == response


@given(samples.entries(), st.binary(max_size=30), st.binary(max_size=30))
def test_entry(entry: Entry, before: bytes, behind: bytes) -> None:
    buffer = before + entry.data + behind
    decoded = Entry.decode(buffer, len(before))
    assert decoded == entry == Entry.decode(memoryview(buffer), len(before))
    assert encoded_size(buffer, len(before)) == entry.size == ENTRY_HEADER_BYTES + len(entry.payload)
    assert decoded.checksum == entry.checksum
    assert type(decoded.data) is bytes


@given(
    st.integers(0, MAX_U63),
    st.integers(1, MAX_U63),
    st.integers(0, MAX_U63),
    st.lists(samples.payloads, max_size=5),
)
def test_group(session: int, number: int, floor: int, commands: list[bytes]) -> None:
    floor = min(floor, number)
    if session == 0:
        data, commands, floor = encode_open_session(number), [], 0
    else:
        data = encode_group(session, number, floor, commands)
    group, end = decode_group(b"?" + data + b"!", 1)
    assert (group.session, group.number, group.floor, group.commands) == (
        session,
        number,
        floor,
        tuple(commands),
    )
    assert group.opens_session == (session == 0)
    assert end == 1 + len(data)
    assert peek_group(data) == (session, number, len(commands), len(data))
    assert len(data) == GROUP_HEADER_BYTES + sum(4 + len(command) for command in commands)


@given(st.lists(samples.groups, max_size=5))
def test_groups_of_an_entry(groups: list[bytes]) -> None:
    entry = Entry.create(EntryKind.COMMANDS, 1, 1, 0, groups, len(groups))
    assert list(decode_groups(entry.payload, entry.count)) == [decode_group(group)[0] for group in groups]


@given(st.sampled_from(FrameKind), samples.payloads, st.lists(samples.payloads, max_size=3))
def test_frame(kind: FrameKind, head: bytes, tail: list[bytes]) -> None:
    parts = encode_frame(kind, head, tail)
    assert parts[1:] == tail
    data = b"".join(parts)
    assert frame_size(data) == len(data) == FRAME_HEADER_BYTES + len(head) + sum(map(len, tail))
    frame = decode_frame(data)
    assert (frame.kind, bytes(frame.head), bytes(frame.tail)) == (kind, head, b"".join(tail))


@pytest.mark.parametrize("complete", range(FRAME_HEADER_BYTES))
def test_size_of_a_frame_waits_for_the_header(complete: int) -> None:
    data = b"".join(encode_frame(FrameKind.PEER, b"head"))
    assert frame_size(data[:complete]) is None
    assert frame_size(b"??" + data, 2) == len(data)
