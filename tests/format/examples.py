"""The examples of docs/design/formats-wire.md, in its order: what is said, as the code says it."""

from d_engine.format.configuration import Configuration, Member, encode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.frames import FrameKind, encode_frame
from d_engine.format.group import encode_group, encode_open_session
from d_engine.format.hello import Channel, Greeting, Hello, Refusal, encode_greeting
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
    encode_message,
)
from d_engine.format.requests import (
    EVENTUAL,
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
    Watch,
    WatchControl,
    WatchEnded,
    WatchEvents,
    WatchProgress,
    WatchStarted,
    WriteGroup,
    encode_request,
    encode_response,
)

HELLO: Greeting = Hello(Channel.DATA, 0x1234, 1, 11, "10.0.0.1:7000")
CLIENT_HELLO: Greeting = Hello(Channel.CLIENT, 0, 0, 0)
REFUSAL: Greeting = Refusal("not_member", "add it first")
GROUP = encode_group(5, 2, 1, [b"abc", b""])
OPEN_SESSION = encode_open_session(0xABCD)
CONFIGURATION = Configuration(0x1234, (Member(1, "a:1", 11), Member(2, "b:2")), (1,), learners=(2,))
ENTRY = Entry.create(EntryKind.COMMANDS, 3, 7, 1_000_000_000, (GROUP,), 1)
NOOP = Entry.create(EntryKind.NOOP, 3, 6, 999_999_999)
MESSAGES: dict[str, PeerMessage] = {
    "vote request": VoteRequest(3, 5, 2, True, False),
    "vote response": VoteResponse(3, True, True),
    "append request": AppendRequest(3, 6, 3, 5, (ENTRY,)),
    "append response": AppendResponse(3, 7),
    "append response, rejected": AppendResponse(3, 0, 6, 4, 2),
    "heartbeat": Heartbeat(3, 17, 6, 1_000_000_000),
    "heartbeat response": HeartbeatResponse(3, 17),
    "read request": ReadRequest(3, 4),
    "read response": ReadResponse(3, 4, 6),
    "timeout now": TimeoutNow(3),
    "install snapshot": InstallSnapshot(3, SnapshotMeta(6, 3, CONFIGURATION)),
    "forward": Forward((OPEN_SESSION,)),
    "change request": ChangeRequest(9, (MemberChange("add_learner", Member(3, "c:3")),)),
    "change response": ChangeResponse(9, "", ""),
    "snapshot request": SnapshotRequest(6, 3, 0, 512 * 1024),
    "snapshot chunk": SnapshotChunk(6, 3, 123, 208, b"digest", b"chunks"),
    "digest report": DigestReport(8, bytes(range(16))),
}
REQUESTS: dict[str, Request] = {
    "open session": OpenSession(1, 5000),
    "write group": WriteGroup(2, 5000, GROUP),
    "read batch": ReadBatch(3, 5000, EVENTUAL, 8, (b"query",)),
    "manage": Manage(4, 5000, "status", b"{}"),
    "watch": Watch(6, 5000, 8, b"selection"),
    "watch control": WatchControl(6, 300, True),
}
RESPONSES: dict[str, Response] = {
    "session opened": SessionOpened(1, 5),
    "group results": GroupResults(2, 8, (b"ok",)),
    "read results": ReadResults(3, (b"answer",)),
    "managed": Managed(4, b"{}"),
    "failure": Failure(5, "no_leader", "no leader"),
    "watch started": WatchStarted(6, 8, 262144),
    "watch events": WatchEvents(6, 9, b"events"),
    "watch progress": WatchProgress(6, 12, (6, 7)),
    "watch ended": WatchEnded(6, "compacted", "too old", 20),
}


def message_bytes(message: PeerMessage) -> bytes:
    head, tail = encode_message(message)
    return b"".join((head, *tail))


EXAMPLES: dict[str, bytes] = {
    "frame": b"".join(encode_frame(FrameKind.PEER, *encode_message(MESSAGES["heartbeat response"]))),
    "frame with a tail": b"".join(encode_frame(FrameKind.PEER, b"head", [b"tail"])),
    "hello": encode_greeting(HELLO),
    "client hello": encode_greeting(CLIENT_HELLO),
    "refusal": encode_greeting(REFUSAL),
    "entry": ENTRY.data,
    "noop": NOOP.data,
    "configuration": encode_configuration(CONFIGURATION),
    "group": GROUP,
    "group that opens a session": OPEN_SESSION,
    **{name: message_bytes(message) for name, message in MESSAGES.items()},
    **{name: encode_request(request) for name, request in REQUESTS.items()},
    **{name: encode_response(response) for name, response in RESPONSES.items()},
}
