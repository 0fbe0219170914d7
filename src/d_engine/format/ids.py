"""Names for the numbers that the protocol speaks of, with the bounds that a decoder enforces.

A number that came over a wire or from a disk is checked against these bounds before anything else looks at it, so
that no peer can push a term or an index to the end of its range and leave the cluster nowhere to go.
"""

from typing import Annotated, TypeAlias

from msgspec import Meta

MAX_TERM = 2**48
MAX_LOG_INDEX = 2**44
MAX_NODE_ID = 2**32 - 1
MAX_U63 = 2**63 - 1

NodeId: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_NODE_ID)]
"""A member's number, from 1. 0 means "nobody"."""

Term: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_TERM)]
LogIndex: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_LOG_INDEX)]

ClusterId: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_U63)]
"""Drawn at random when a cluster is born. 0 means "not born yet, or not known yet"."""

Incarnation: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_U63)]
"""Drawn at random by each empty data directory, so that a wiped disk is not mistaken for the member it was."""

SessionId: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_U63)]
"""The log position of the command that opened the session. 0 means "no session"."""

Nanoseconds: TypeAlias = int

NOBODY: NodeId = 0
