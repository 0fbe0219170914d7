"""Questions to pinned views: views of the store that a node keeps for a while, so that many answers are of one moment.

They travel like the other queries (`d_engine.kv.queries`), behind a byte with which no msgpack value begins. What is
asked of a view is an ordinary query (entries of keys, a prefix, a range that is not reversed), and so is the answer.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from d_engine.format.errors import InvalidRequestError, MalformedError, NotAppliedError, error_from_code
from d_engine.format.ids import MAX_U63
from d_engine.kv.queries import MAX_ANSWER_BYTES, Entries, GetEntries, GetRange, Scan, get_entries, scan
from d_engine.kv.store import StoreView

MARK = b"\xc1"
_Count = Annotated[int, Meta(ge=0, le=MAX_U63)]


class OpenView(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """Pin the state as it is now."""


class ReadView(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Ask a pinned view."""

    view: _Count
    query: GetEntries | GetRange


class CloseView(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """Let it go. Doing it again changes nothing."""

    view: _Count


class ViewOpened(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=11):
    """Its number, the revision of the moment, how many keys there were, and for how many seconds it is kept."""

    view: _Count
    revision: _Count
    count: _Count
    seconds: float


class ViewClosed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=12):
    """It is not pinned any more."""


class ViewRefused(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=13):
    """The `code` of a `d_engine.format.errors` class, and its text."""

    code: str
    text: str


Question: TypeAlias = OpenView | ReadView | CloseView
Answer: TypeAlias = ViewOpened | ViewClosed | ViewRefused | Entries | Scan
_ENCODER = msgspec.msgpack.Encoder()
_QUESTIONS: "msgspec.msgpack.Decoder[Question]" = msgspec.msgpack.Decoder(Question)
_ANSWERS: "msgspec.msgpack.Decoder[Answer]" = msgspec.msgpack.Decoder(Answer)


def encode_question(question: Question) -> bytes:
    """As a query."""
    return MARK + _ENCODER.encode(question)


def decode_question(query: bytes) -> Question:
    """Raises `MalformedError`."""
    try:
        return _QUESTIONS.decode(memoryview(query)[len(MARK) :])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a question to a view does not decode: {error}") from None


def encode_answer(answer: Answer) -> bytes:
    """As the answer to a query."""
    return _ENCODER.encode(answer)


def decode_answer(answer: bytes) -> ViewOpened | ViewClosed | Entries | Scan:
    """Raises what the node refused it with, `MalformedError` for no such answer."""
    try:
        decoded = _ANSWERS.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a view's answer does not decode: {error}") from None
    if isinstance(decoded, ViewRefused):
        refusal = error_from_code(decoded.code, decoded.text)
        if isinstance(refusal, NotAppliedError):
            raise refusal
        raise MalformedError(f"refused for no known reason: {refusal}")
    return decoded


def read_view(view: StoreView, query: GetEntries | GetRange) -> Entries | Scan:
    """Raises `InvalidRequestError` for what a view cannot answer."""
    if isinstance(query, GetRange):
        if query.reverse:
            raise InvalidRequestError("a pinned view is read forwards only")
        return scan(view, view.range(query.start, query.end), query)
    found = get_entries(view, query.keys)
    if isinstance(found, Entries):
        return found
    raise InvalidRequestError(f"the keys hold more than {MAX_ANSWER_BYTES} bytes: ask for fewer at a time")
