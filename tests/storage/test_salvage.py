"""What is left of a damaged log (architecture, section 11): a good beginning, and what is still known of the rest."""

import pytest

from d_engine.format.errors import CorruptionError, DiskError
from d_engine.format.state import HardState, RecoveredLog
from d_engine.storage.disk import Disk, DiskOperation, RemoveFile, SyncDirectory
from d_engine.storage.salvage import Damage
from d_engine.storage.segment import HEADER_BYTES, segment_name
from d_engine.storage.wal import WalStorage
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import SEED, SEGMENT_BYTES, Log, configuration, configuration_entry, entries, entry

VOTE = HardState(3, 2)


def long_log() -> Log:
    """Several segments; the newest term and vote stand in one of them, and at the beginning of the next."""
    log = Log(CrashDisk())
    log.wal.append(1, HardState(1, 1), [configuration_entry(1, 1, 1, 2, 3)])
    log.disk.settle()
    log.seq = 1
    for index in range(2, 30):
        log.write(entry(index, 1, 400))
    log.seq += 1
    log.wal.append(log.seq, VOTE, [entry(30, 3, 400)])
    log.disk.settle()
    for index in range(31, 48):
        log.write(entry(index, 3, 400))
    return log


def short_log() -> Log:
    """One segment; the newest vote is in the middle of it."""
    log = Log(CrashDisk())
    log.wal.append(1, HardState(1, 1), [configuration_entry(1, 1, 1, 2, 3), *entries(2, 3)])
    log.disk.settle()
    log.seq = 2
    log.wal.append(2, VOTE, [entry(4, 3)])
    log.disk.settle()
    log.write(entry(5, 3))
    log.write(entry(6, 3))
    return log


def segments_of(disk: CrashDisk) -> list[str]:
    """Those that were written to."""
    names = sorted(name for name in disk.files() if name.endswith(".wal"))
    return [name for name in names if any(disk.names[name].current[HEADER_BYTES:])]


def salvage(disk: CrashDisk) -> tuple[RecoveredLog, Damage | None]:
    """As a node does; the log is whole afterwards and can be written."""
    found: list[Damage] = []
    wal = WalStorage(disk, SEED, SEGMENT_BYTES)
    log = wal.recover_part(found.append)
    if found:
        again = WalStorage(disk.copy(), SEED, SEGMENT_BYTES).recover()
        assert again == log
    return log, found[0] if found else None


def check_is_part(log: RecoveredLog, damage: Damage, last: int) -> None:
    """Nothing is made up, and nothing is promised that is not known."""
    assert log.first_index == 1
    assert log.last_index <= damage.held_index <= last
    for found in log.tail:
        term = 3 if found.index >= (30 if last > 10 else 4) else 1
        assert found.term == term
    if damage.hard_state is not None:
        assert damage.hard_state == VOTE
    if damage.configuration is not None:
        assert damage.configuration == configuration(1, 2, 3)


def test_any_flipped_bit_of_a_short_log_leaves_a_part_and_never_an_old_vote() -> None:
    log = short_log()
    (name,) = segments_of(log.disk)
    end = len(log.disk.names[name].current.rstrip(b"\0"))
    outcomes: dict[str, int] = {}
    # Bytes 8 to 12 are the version: an unknown one is refused, whatever made it so.
    for offset in [*range(8), *range(12, 48), *range(HEADER_BYTES, end)]:
        disk = log.disk.copy()
        disk.flip(name, offset, 0x10)
        found, damage = salvage(disk)
        if damage is None:
            outcomes["torn"] = outcomes.get("torn", 0) + 1
            continue
        check_is_part(found, damage, 6)
        kind = "lost" if damage.hard_state is None else "kept"
        outcomes[kind] = outcomes.get(kind, 0) + 1
    assert min(outcomes[kind] for kind in ("torn", "kept", "lost")) > 20


@pytest.mark.parametrize("place", range(4))
def test_damage_in_a_segment_leaves_what_is_before_it(place: int) -> None:
    log = long_log()
    names = segments_of(log.disk)
    name = names[min(place, len(names) - 2)]
    for offset in range(HEADER_BYTES, HEADER_BYTES + 3000, 97):
        disk = log.disk.copy()
        disk.flip(name, offset)
        found, damage = salvage(disk)
        assert damage is not None
        check_is_part(found, damage, 47)
        assert damage.held_index == 47
        # Each later segment begins with term and vote.
        assert damage.hard_state == VOTE


@pytest.mark.parametrize("what", ["header", "first", "missing", "short", "long"])
@pytest.mark.parametrize("place", range(4))
def test_each_kind_of_damage_to_a_segment(what: str, place: int) -> None:
    log = long_log()
    names = segments_of(log.disk)
    name = names[min(place, len(names) - 2)]
    disk = log.disk.copy()
    if what == "missing":
        disk.run((RemoveFile(name), SyncDirectory()))
    elif what == "header":
        disk.flip(name, 20)
    elif what == "first":
        disk.flip(name, HEADER_BYTES + 8)
    else:
        file = disk.names[name]
        file.resize(len(file.current) + (-2000 if what == "short" else 4096))
        file.sync()
    found, damage = salvage(disk)
    assert damage is not None
    check_is_part(found, damage, 47)
    assert damage.held_index == 47
    assert damage.hard_state == VOTE


def test_the_newest_segments_header_takes_the_vote_along() -> None:
    log = long_log()
    disk = log.disk.copy()
    disk.flip(segments_of(disk)[-1], 20)
    found, damage = salvage(disk)
    assert damage is not None
    assert damage.hard_state is None
    assert found.last_index <= damage.held_index < 47


def test_the_header_of_a_segment_that_was_never_used_takes_nothing_along() -> None:
    log = long_log()
    disk = log.disk.copy()
    unused = [name for name in disk.files() if name.endswith(".wal") and name not in segments_of(disk)]
    if not unused:
        spare = segment_name(len(segments_of(disk)) + 1)
        disk.names[spare] = disk.names[segments_of(disk)[-1]].copy()
        disk.names[spare].current[:] = bytes(len(disk.names[spare].current))
        unused = [spare]
    else:
        disk.flip(unused[0], 20)
    found, damage = salvage(disk)
    assert damage is not None
    assert (found.last_index, damage.hard_state) == (47, VOTE)


def test_who_refuses_finds_everything_as_it_was() -> None:
    log = long_log()
    disk = log.disk.copy()
    disk.flip(segments_of(disk)[1], HEADER_BYTES + 500)
    before = {name: bytes(disk.names[name].current) for name in disk.files()}

    def refuse(damage: Damage) -> None:
        raise CorruptionError(damage.text)

    with pytest.raises(CorruptionError, match="damaged"):
        WalStorage(disk, SEED, SEGMENT_BYTES).recover_part(refuse)
    with pytest.raises(CorruptionError, match="damaged"):
        WalStorage(disk, SEED, SEGMENT_BYTES).recover()
    assert {name: bytes(disk.names[name].current) for name in disk.files()} == before


def test_the_compaction_may_be_lost_with_what_it_made_possible() -> None:
    log = long_log()
    log.wal.compact(25)
    log.disk.settle()
    log.write(entry(48, 3))
    log.write(entry(49, 3))
    disk = log.disk.copy()
    names = segments_of(disk)
    assert names[0] != segment_name(1)
    # From the record of the compaction on, which stands behind entry 47 in the last segment.
    data = bytes(disk.names[names[-1]].current)
    disk.flip(names[-1], data.rindex(b"rec1\4") + 40)
    found, damage = salvage(disk)
    assert damage is not None
    assert (found.first_index, found.last_index, found.snapshot) == (1, 0, None)
    assert damage.held_index == 49


class Dying:
    """A disk that dies after so many operations."""

    def __init__(self, disk: CrashDisk, left: int) -> None:
        self.inner = disk
        self.left = left
        self.files, self.size, self.read = disk.files, disk.size, disk.read

    def run(self, operations: list[DiskOperation]) -> None:
        for operation in operations:
            if not self.left:
                raise DiskError("dead")
            self.left -= 1
            self.inner.run((operation,))


@pytest.mark.parametrize("offset", [HEADER_BYTES + 500, HEADER_BYTES + 8, 20])
def test_every_step_of_the_cut_can_be_the_last(offset: int) -> None:
    log = long_log()
    for steps in range(40):
        disk = log.disk.copy()
        disk.flip(segments_of(disk)[1], offset)
        dying: Disk = Dying(disk, steps)  # type: ignore[assignment]
        ended = False
        try:
            WalStorage(dying, SEED, SEGMENT_BYTES).recover_part(lambda damage: None)
            ended = True
        except DiskError:
            pass
        found, _ = salvage(disk.killed())
        assert found.first_index == 1
        assert 1 <= found.last_index < 47
        if ended:
            return
    raise AssertionError("the cut never ends")
