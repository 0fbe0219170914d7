"""The hello: who is there. The first frame on every connection, from the side that dialled; the other side answers
with its own, or with a refusal and closes. Nothing else is looked at before that."""

from enum import IntEnum
from typing import TypeAlias

import msgspec
from msgspec import Struct

from d_engine.format.errors import MalformedError
from d_engine.format.ids import ClusterId, Incarnation, NodeId


class Channel(IntEnum):
    """What a connection is for. Heartbeats must not queue behind entries, hence two between members."""

    CONTROL = 1
    DATA = 2
    CLIENT = 3


class Hello(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """Who speaks. A client has node id 0, incarnation 0, and cluster id 0 unless it insists on one."""

    channel: Channel
    cluster_id: ClusterId
    node_id: NodeId
    incarnation: Incarnation
    address: str = ""


class Refusal(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Why the connection is not accepted: an error's `code` and text."""

    code: str
    text: str


Greeting: TypeAlias = Hello | Refusal
_DECODER: "msgspec.msgpack.Decoder[Greeting]" = msgspec.msgpack.Decoder(Greeting)
_ENCODER = msgspec.msgpack.Encoder()


def encode_greeting(greeting: Greeting) -> bytes:
    """The head of a hello frame."""
    return _ENCODER.encode(greeting)


def decode_greeting(head: bytes | memoryview) -> Greeting:
    """Read and validate. Raises `MalformedError`."""
    try:
        return _DECODER.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a hello does not decode: {error}") from None
