"""The ports through which a replica reaches the world. The runtime has the real ones, the simulator its own."""

from collections.abc import Callable
from typing import Protocol

from d_engine.format.hello import Channel
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import PeerMessage


class Host(Protocol):
    """Time, turns and chance.

    `now` reads the boot-time clock (nanoseconds; counts suspended time; never goes back) at this moment. `call_soon`
    runs the function once, soon, on the thread that drives the replica, never from within the call. `set_timer`
    replaces the one timer: `Replica.tick` is to be called once `now()` has reached `deadline`. `random_bits(k)` draws.
    """

    def now(self) -> Nanoseconds: ...

    def call_soon(self, function: Callable[[], None]) -> None: ...

    def set_timer(self, deadline: Nanoseconds) -> None: ...

    def random_bits(self, count: int) -> int: ...


class Network(Protocol):
    """Messages to other members: best effort, in order while a connection lasts, lost when it breaks or when its
    bounded queue is full. `set_peers` names everybody to keep connections to, with addresses; whoever is not named
    is disconnected. Reachability is told to the replica (`Replica.peer_connected`, `Replica.peer_lost`)."""

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None: ...

    def set_peers(self, peers: dict[NodeId, str]) -> None: ...

    def disconnect(self, peer: NodeId) -> None: ...
