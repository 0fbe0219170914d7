"""Where the nodes can be reached, what became of the last attempt, and which one to try next."""

from collections.abc import Iterable, Sequence

from d_engine.client.api import MemberInfo
from d_engine.format.errors import ConfigError, DEngineError
from d_engine.format.ids import NOBODY, NodeId
from d_engine.runtime.address import parse_address

RECENT_SECONDS = 5.0


def parse_endpoints(endpoints: str | Iterable[str]) -> list[str]:
    """`"host:port,host:port"`, or a sequence of such addresses. Raises `ConfigError`."""
    texts = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    addresses = list(dict.fromkeys(str(parse_address(text.strip())) for text in texts))
    if not addresses:
        raise ConfigError("there is no endpoint to connect to: give at least one host:port")
    return addresses


class Endpoints:
    """The addresses that were given, and, if it is to discover them, those of the members as far as a node has told."""

    def __init__(self, addresses: Sequence[str], discover: bool = True) -> None:
        self.leader: NodeId = NOBODY
        self._discover = discover
        self._given = list(addresses)
        self._members: dict[NodeId, str] = {}
        self._failures: dict[str, tuple[float, DEngineError]] = {}

    def learn(self, members: Sequence[MemberInfo]) -> None:
        """Replace what is known of the members."""
        if self._discover:
            self._members = {member.id: member.address for member in members if member.address}

    @property
    def leader_address(self) -> str | None:
        """Where the leader is, if both are known."""
        return self._members.get(self.leader)

    def order(self, now: float) -> list[str]:
        """All addresses, the one to try first in front: the leader's unless it failed recently, then those that never
        failed, then those whose failure is the oldest."""
        addresses = list(dict.fromkeys((*self._given, *self._members.values())))
        addresses.sort(key=self._failed_at)
        leader = self.leader_address
        if leader is not None and not self.failed_recently(leader, now):
            addresses.remove(leader)
            addresses.insert(0, leader)
        return addresses

    def failed(self, address: str, error: DEngineError, now: float) -> None:
        """It cannot be reached, or does not serve. Others come first now."""
        self._failures[address] = (now, error)

    def failed_recently(self, address: str, now: float) -> bool:
        """True if it makes little sense to go there now for the leader's sake."""
        return now - self._failed_at(address) < RECENT_SECONDS

    def describe(self) -> str:
        """Each endpoint that failed and why, for an error's text."""
        if not self._failures:
            return "none has failed yet"
        return "; ".join(f"{address}: {error}" for address, (_, error) in sorted(self._failures.items()))

    def _failed_at(self, address: str) -> float:
        failure = self._failures.get(address)
        return float("-inf") if failure is None else failure[0]
