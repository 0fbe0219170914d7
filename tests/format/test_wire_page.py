"""Golden bytes: docs/design/formats-wire.md says what the code says, and what was written once can still be read."""

import re
from pathlib import Path

import pytest

from d_engine.format.configuration import decode_configuration
from d_engine.format.entry import Entry
from d_engine.format.frames import FrameKind, decode_frame
from d_engine.format.group import Group, decode_group
from d_engine.format.hello import decode_greeting
from d_engine.format.messages import AppendRequest, decode_message
from d_engine.format.requests import decode_request, decode_response
from tests.format import examples
from tests.format.examples import EXAMPLES

PAGE = Path(__file__).parents[2] / "docs" / "design" / "formats-wire.md"
WRITTEN = [
    bytes.fromhex(block) for block in re.findall(r"(?:^    [0-9a-f ]+\n)+", PAGE.read_text(), re.MULTILINE)
]
PAIRS = dict(zip(EXAMPLES, WRITTEN, strict=True))


@pytest.mark.parametrize("name", EXAMPLES)
def test_page_shows_what_is_written(name: str) -> None:
    assert PAIRS[name].hex(" ") == EXAMPLES[name].hex(" ")


def test_frames_are_read_back() -> None:
    assert decode_frame(PAIRS["frame"]).kind is FrameKind.PEER
    frame = decode_frame(PAIRS["frame with a tail"])
    assert (bytes(frame.head), bytes(frame.tail)) == (b"head", b"tail")


def test_greetings_are_read_back() -> None:
    assert decode_greeting(PAIRS["hello"]) == examples.HELLO
    assert decode_greeting(PAIRS["client hello"]) == examples.CLIENT_HELLO
    assert decode_greeting(PAIRS["refusal"]) == examples.REFUSAL


def test_entries_and_groups_are_read_back() -> None:
    assert Entry.decode(PAIRS["entry"]) == examples.ENTRY
    assert Entry.decode(PAIRS["noop"]) == examples.NOOP
    assert decode_configuration(PAIRS["configuration"]) == examples.CONFIGURATION
    group, _ = decode_group(PAIRS["group"])
    assert group == Group(5, 2, 1, (b"abc", b""), group.checksum)
    assert decode_group(PAIRS["group that opens a session"])[0].opens_session


@pytest.mark.parametrize("name", examples.MESSAGES)
def test_messages_are_read_back(name: str) -> None:
    message, data = examples.MESSAGES[name], PAIRS[name]
    tail = sum(entry.size for entry in message.entries) if isinstance(message, AppendRequest) else 0
    assert decode_message(data[: len(data) - tail], data[len(data) - tail :]) == message


def test_requests_and_responses_are_read_back() -> None:
    for name, request in examples.REQUESTS.items():
        assert decode_request(PAIRS[name]) == request
    for name, response in examples.RESPONSES.items():
        assert decode_response(PAIRS[name]) == response
