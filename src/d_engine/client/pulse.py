"""Once a second, while a client has something to do, it asks its node who leads.

That is how it follows the leader and learns the members' addresses, and how it notices a node that is connected and
says nothing: the question is answered at once by every node that lives, with or without a leader.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from d_engine.client.documents import decode_leader, decode_members
from d_engine.client.endpoints import Endpoints
from d_engine.client.link import Call, Link
from d_engine.format.errors import DEngineError, MalformedError, UnavailableError
from d_engine.format.requests import Manage, Managed, Response

PULSE_SECONDS = 1.0
SILENT_PULSES = 2
"""A node from which nothing at all came for so many questions in a row is given up."""


class Pulse:
    """Asks through `send`; tells where the leader is by `follow` when that is another node."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoints: Endpoints,
        send: Callable[[Link, Call], None],
        follow: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._endpoints = endpoints
        self._send = send
        self._follow = follow
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._active = False
        self._silent = 0

    def watch(self, link: Link) -> None:
        """From now on this is the node to ask."""
        self._link = link
        self._silent = 0
        self._ask(link, "members")
        self._ask(link, "leader")
        # If nodes were looked for for long there are no beats any more.
        self.active()

    def active(self) -> None:
        """There is something to do."""
        self._active = True
        if self._timer is None:
            self._timer = self._loop.call_later(PULSE_SECONDS, self._beat)

    def stop(self) -> None:
        """No more questions."""
        self._link = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._timer = None
        link = self._link
        if link is not None and link.connection.open:
            self._active = self._active or bool(link.calls or link.watches)
            self._ask(link, "leader")
        if self._active:
            self._active = False
            self._timer = self._loop.call_later(PULSE_SECONDS, self._beat)

    def _ask(self, link: Link, operation: str) -> None:
        told = partial(self._told, link, link.heard, operation)
        deadline = self._loop.time() + PULSE_SECONDS
        self._send(link, Call(lambda number, ms: Manage(number, ms, operation, b"{}"), deadline, told))

    def _told(self, link: Link, heard: int, operation: str, answer: Response | DEngineError) -> None:
        if link is not self._link:
            return
        if isinstance(answer, Managed):
            try:
                self._learn(link, operation, answer.document)
            except MalformedError as error:
                link.connection.abort(error)
            return
        self._silent = self._silent + 1 if link.heard == heard else 0
        if self._silent >= SILENT_PULSES:
            silent = f"{link.address} is connected and did not answer for {SILENT_PULSES * PULSE_SECONDS:g} s"
            link.connection.abort(UnavailableError(silent))

    def _learn(self, link: Link, operation: str, document: bytes) -> None:
        self._silent = 0
        endpoints = self._endpoints
        if operation == "members":
            endpoints.learn(decode_members(document))
        else:
            leader = decode_leader(document)
            if leader is not None:
                endpoints.leader = leader.leader_id
                if endpoints.leader_address is None:
                    self._ask(link, "members")
        address = endpoints.leader_address
        if address is None or endpoints.leader == link.node_id:
            return
        if not endpoints.failed_recently(address, self._loop.time()):
            self._follow(address)
