"""Whom a replica tells what happens to it."""

from dataclasses import dataclass
from typing import Protocol

from d_engine.format.configuration import Configuration
from d_engine.format.errors import DEngineError
from d_engine.format.ids import LogIndex
from d_engine.raft.effects import LeaderState


@dataclass(frozen=True, slots=True)
class Health:
    """What is wrong with this node's data, in words; empty if nothing is. `alarm` is for people to act on; of a
    `quarantine` the node gets out by itself, if other members can help. It says why it is in one, which is `reason`,
    and until when, which may change. `disk_full` says for what there is no room; it ends when there is some again."""

    alarm: str = ""
    quarantine: str = ""
    reason: str = ""
    disk_full: str = ""


class ReplicaListener(Protocol):
    """Called on the replica's thread, at most once per change, in the order of the changes. `failed` is the last."""

    def leader_changed(self, state: LeaderState) -> None: ...

    def members_changed(self, index: LogIndex, configuration: Configuration) -> None: ...

    def health_changed(self, health: Health) -> None: ...

    def failed(self, error: DEngineError) -> None: ...
