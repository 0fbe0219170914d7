"""Who ends leases, and when (architecture, section 7), on whole nodes."""

from d_engine.format.group import encode_group
from d_engine.kv.commands import encode_held_put
from d_engine.kv.holding import ON_LEASE, WITH_TTL
from d_engine.kv.lease_commands import encode_grant, encode_keep_alive
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.results import decode_granted
from d_engine.raft.effects import Role
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.settings import MILLISECOND, SECOND
from tests.replica.room import STEP, Room, Seat, change

SLACK = 3 * STEP


class Holder:
    """A client of one node."""

    def __init__(self, room: Room, seat: Seat) -> None:
        self.room, self.seat = room, seat
        self._number = 0
        self._group = b""
        self._session = self._wait(lambda done: seat.alive.open_session(10 * SECOND, done)).revision

    def do(self, *commands: bytes) -> list[bytes]:
        self._number += 1
        self._group = encode_group(self._session, self._number, self._number - 1, commands)
        return self.again(self.seat)

    def again(self, seat: Seat) -> list[bytes]:
        """Send the last group, through this node."""
        outcome = self._wait(lambda done: seat.alive.propose(self._group, 10 * SECOND, done))
        assert outcome.error is None, outcome.error
        return list(outcome.results)

    def _wait(self, ask) -> GroupOutcome:  # type: ignore[no-untyped-def]
        outcomes: list[GroupOutcome] = []
        ask(outcomes.append)
        self.room.until(lambda: bool(outcomes))
        return outcomes[0]


def keys_on(seat: Seat) -> list[bytes]:
    machine = seat.alive.applier.state_machine
    assert isinstance(machine, KvStateMachine)
    return [entry.key for entry in machine.store.scan()]


def test_a_lease_ends_on_all_nodes_when_its_time_is_over_and_not_before() -> None:
    room = Room(3)
    holder = Holder(room, room.leader)
    start = room.time
    lease = decode_granted(holder.do(encode_grant(5 * SECOND))[0]).id
    holder.do(
        encode_held_put(b"a", b"", False, ON_LEASE, lease), encode_held_put(b"b", b"", False, ON_LEASE, lease)
    )
    room.run(start + 5 * SECOND - room.time - STEP)
    assert all(keys_on(seat) == [b"a", b"b"] for seat in room.seats.values())
    room.run(STEP + SLACK)
    assert all(keys_on(seat) == [] for seat in room.seats.values())
    assert len({seat.alive.applier.state_machine.digest() for seat in room.seats.values()}) == 1


def test_it_ends_within_a_moment_though_nothing_else_happens() -> None:
    """A node alone has no heartbeats that would wake it: the timer does."""
    room = Room(1)
    holder = Holder(room, room.leader)
    holder.do(encode_held_put(b"a", b"", False, WITH_TTL, 250 * MILLISECOND))
    room.run(200 * MILLISECOND)
    assert keys_on(room.leader) == [b"a"]
    room.run(100 * MILLISECOND)
    assert keys_on(room.leader) == []


def test_keeping_alive_moves_the_end() -> None:
    room = Room(3)
    holder = Holder(room, room.leader)
    lease = decode_granted(holder.do(encode_grant(2 * SECOND))[0]).id
    holder.do(encode_held_put(b"a", b"", False, ON_LEASE, lease))
    for _ in range(5):
        room.run(SECOND)
        holder.do(encode_keep_alive([lease]))
    assert keys_on(room.leader) == [b"a"]
    room.run(2 * SECOND + SLACK)
    assert keys_on(room.leader) == []


def test_a_time_without_a_leader_only_lengthens_it() -> None:
    room = Room(3)
    old = room.leader
    holder = Holder(room, old)
    start = room.time
    holder.do(encode_held_put(b"a", b"", False, WITH_TTL, 3 * SECOND))
    room.run(SECOND)
    for seat in room.seats.values():
        seat.stop()
    room.run(10 * SECOND)
    for seat in room.seats.values():
        seat.start()
    room.until(lambda: room.leads() is not None)
    elected = room.time
    assert keys_on(room.leader) == [b"a"]
    # What had passed by the last entry's log time has passed.
    room.until(lambda: keys_on(room.leader) == [])
    assert room.time - elected <= 3 * SECOND + SLACK
    assert room.time - start >= 3 * SECOND


def test_a_new_leader_ends_what_its_predecessor_did_not() -> None:
    room = Room(3)
    holder = Holder(room, room.leader)
    start = room.time
    holder.do(encode_held_put(b"a", b"", False, WITH_TTL, 3 * SECOND))
    room.run(SECOND)
    seats = [seat for seat in room.seats.values() if seat is not room.leader]
    room.cut(room.leader.id)
    room.until(lambda: keys_on(seats[0]) == keys_on(seats[1]) == [])
    assert 3 * SECOND <= room.time - start <= 3 * SECOND + 3 * SECOND


def test_a_leader_that_was_cut_off_lets_nothing_end_early_when_it_leads_again() -> None:
    """Its clock ran on while somebody else led; what was granted then is counted from there."""
    room = Room(3)
    old = room.leader
    others = [seat for seat in room.seats.values() if seat is not old]
    room.cut(old.id)
    room.until(lambda: room.leads() in others)
    room.until(lambda: old.alive.raft.role is not Role.LEADER)
    holder = Holder(room, room.leader)
    start = room.time
    holder.do(encode_held_put(b"a", b"", False, WITH_TTL, 4 * SECOND))
    ahead = old.alive.router.timekeeper.log_time() - room.leader.alive.router.timekeeper.log_time()
    room.mend(old.id)
    room.until(lambda: keys_on(old) == [b"a"])
    asked = room.ask(change("transfer", old.id))
    room.until(lambda: bool(asked) and room.leads() is old)
    room.until(lambda: keys_on(old) == [])
    assert room.time - start >= 4 * SECOND
    assert ahead > SLACK, "the test shows nothing"


def test_many_ends_are_many_entries() -> None:
    room = Room(1)
    holder = Holder(room, room.leader)
    for _ in range(5):
        holder.do(*([encode_grant(2 * SECOND)] * 500))
    before = room.leader.alive.raft.last_index
    room.run(2 * SECOND + SLACK)
    machine = room.leader.alive.applier.state_machine
    assert isinstance(machine, KvStateMachine)
    assert len(machine.store.leases) == 0
    assert 3 <= room.leader.alive.raft.last_index - before <= 10
    assert room.leader.alive.router.timekeeper.proposed == 2500


def test_without_leases_nothing_is_proposed() -> None:
    room = Room(3)
    before = room.leader.alive.raft.last_index
    room.run(5 * SECOND)
    assert room.leader.alive.raft.last_index == before
    assert room.leader.alive.router.timekeeper.deadline(room.time) is None


def test_a_grant_that_is_repeated_is_one_lease() -> None:
    """Section 4, sessions: the same group again, after the leader changed and everybody restarted from a snapshot."""
    room = Room(3)
    holder = Holder(room, room.leader)
    first = holder.do(encode_grant(60 * SECOND), encode_held_put(b"a", b"", False, WITH_TTL, 60 * SECOND))
    old = room.leader
    room.cut(old.id)
    room.until(lambda: room.leads() not in (None, old))
    room.mend(old.id)
    assert holder.again(room.leader) == first

    taken: list[object] = []
    for seat in room.seats.values():
        seat.alive.snapshot(lambda header, error: taken.append(header))
    room.until(lambda: len(taken) == 3)
    for seat in room.seats.values():
        seat.stop()
    for seat in room.seats.values():
        seat.start()
    room.until(lambda: room.leads() is not None)
    assert holder.again(room.follower) == first
    machine = room.leader.alive.applier.state_machine
    assert isinstance(machine, KvStateMachine)
    assert (machine.store.leases.granted, len(machine.store.leases)) == (2, 2)
