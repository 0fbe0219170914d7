"""One connection to one node: requests go out under numbers, answers find their way back by them."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from d_engine.format.errors import DEngineError, MalformedError
from d_engine.format.frames import Frame, FrameKind, encode_frame
from d_engine.format.ids import NodeId
from d_engine.format.requests import (
    Request,
    Response,
    WatchControl,
    WatchEnded,
    WatchEvents,
    WatchProgress,
    WatchResponse,
    WatchStarted,
    decode_response,
    encode_request,
)
from d_engine.runtime.connection import Connection

SEND_LIMIT_BYTES = 64 * 1024 * 1024
"""Above everything that the writer and the reader let out at once, so that reading answers never has to wait."""

NODE_SHARE = 0.95
"""A node gets so much of the time that is left, and so answers with what it knows before the time is over here."""

CallDone: TypeAlias = Callable[[Response | DEngineError], None]


class Call:
    """One request until it is answered, over as many connections as that takes.

    `changes`: it may change something, so a copy that got lost may still do so: from then on (`doubtful`) the call
    ends with a result or as outcome unknown. `repeatable`: sending it twice does no harm, because it changes nothing
    or because its session sees to that. `watch`: it begins a watch, which hears what follows on the link.
    """

    __slots__ = ("asked_again", "changes", "deadline", "done", "doubtful", "make", "repeatable", "watch")

    def __init__(
        self,
        make: Callable[[int, int], Request],
        deadline: float,
        done: CallDone,
        *,
        changes: bool = False,
        repeatable: bool = True,
        watch: "LinkWatch | None" = None,
    ) -> None:
        self.make = make
        self.deadline = deadline
        self.done = done
        self.changes = changes
        self.repeatable = repeatable
        self.watch = watch
        self.doubtful = False
        self.asked_again = False


class LinkWatch(Protocol):
    """Who is told what a watch brings on its link; `lost`: nothing more, because the link is gone or not used."""

    def began(self, link: "Link", started: WatchStarted) -> None: ...

    def came(self, response: WatchEvents | WatchProgress | WatchEnded) -> None: ...

    def lost(self, reason: DEngineError) -> None: ...


class LinkOwner(Protocol):
    """Who is told what a link hears."""

    def answered(self, link: "Link", call: Call, response: Response) -> None: ...

    def lost(self, link: "Link", reason: DEngineError | None) -> None: ...


class Link:
    """`calls` holds what was sent and is not answered, by number; `watches` those that have begun, by theirs."""

    def __init__(self, owner: LinkOwner, connection: Connection, address: str, node_id: NodeId) -> None:
        self.connection = connection
        self.address = address
        self.node_id = node_id
        self.calls: dict[int, Call] = {}
        self.watches: dict[int, LinkWatch] = {}
        self.heard = 0
        """How many answers came."""
        self._owner = owner
        self._number = 0

    def send(self, call: Call, now: float) -> None:
        """Ask. If the connection is about to end, `lost` will tell."""
        self._number += 1
        self.calls[self._number] = call
        timeout_ms = max(0, int((call.deadline - now) * 1000 * NODE_SHARE))
        head = encode_request(call.make(self._number, timeout_ms))
        self.connection.send(encode_frame(FrameKind.REQUEST, head))

    def on_frames(self, frames: list[Frame]) -> None:
        self.heard += len(frames)
        for frame in frames:
            if frame.kind is not FrameKind.RESPONSE or len(frame.tail):
                raise MalformedError(f"a node sent a {frame.kind.name.lower()} frame to a client")
            response = decode_response(frame.head)
            if isinstance(response, WatchResponse) and self._watch_response(response):
                continue
            call = self.calls.pop(response.request, None)
            if call is not None:  # else it was given up
                self._owner.answered(self, call, response)

    def control(self, number: int, taken: int = 0, progress: bool = False, stop: bool = False) -> None:
        """About a watch that has begun."""
        if stop:
            self.watches.pop(number, None)
        head = encode_request(WatchControl(number, taken, progress, stop))
        self.connection.send(encode_frame(FrameKind.REQUEST, head))

    def lose_watches(self, reason: DEngineError) -> None:
        """They get nothing more from here."""
        watches, self.watches = list(self.watches.values()), {}
        for watch in watches:
            watch.lost(reason)

    def stop_watches(self, reason: DEngineError) -> None:
        """They are to be had elsewhere from now on."""
        for number in list(self.watches):
            watch = self.watches[number]
            self.control(number, stop=True)
            watch.lost(reason)

    def _watch_response(self, response: WatchResponse) -> bool:
        """False for the answer to a call that failed."""
        number = response.request
        if isinstance(response, WatchStarted):
            call = self.calls.get(number)
            if call is None or call.watch is None:
                self.control(number, stop=True)
                return True
            self.watches[number] = call.watch
            call.watch.began(self, response)
            return False
        if isinstance(response, WatchProgress):
            for each in response.watches:
                if each in self.watches:
                    self.watches[each].came(response)
            return True
        watch = self.watches.get(number)
        if watch is None:
            return number not in self.calls
        if isinstance(response, WatchEnded):
            del self.watches[number]
        watch.came(response)
        return True

    def on_close(self, reason: DEngineError | None) -> None:
        self._owner.lost(self, reason)
