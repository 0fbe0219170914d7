"""What is left of a damaged log (architecture, section 11): a good beginning, and what is still known of the rest."""

import pytest

from d_engine.format.errors import CorruptionError, DiskError
from d_engine.format.state import HardState, RecoveredLog
from d_engine.storage.disk import Disk, DiskOperation, RemoveFile, SyncDirectory
from d_engine.storage.founding import found_log
from d_engine.storage.records import FRAME_BYTES, Frame, Head, RecordType, decode_frame
from d_engine.storage.salvage import Damage
from d_engine.storage.segment import HEADER_BYTES, decode_segment_header, segment_name
from d_engine.storage.wal import WalStorage
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import (
    SEED,
    SEGMENT_BYTES,
    Log,
    configuration,
    configuration_entry,
    entries,
    entry,
    meta,
)

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


def frames_of(disk: CrashDisk, name: str) -> list[tuple[int, Frame]]:
    """All records of a segment, with their places."""
    data = bytes(disk.names[name].current)
    salt, place = decode_segment_header(name, data[:HEADER_BYTES]).salt, HEADER_BYTES
    found = []
    while (frame := decode_frame(salt, place, data, place)) is not None:
        found.append((place, frame))
        place += FRAME_BYTES + frame.length
    return found


def test_entries_that_cannot_be_read_took_no_vote_along_if_the_count_says_so() -> None:
    """Two records behind the newest vote, frames and all."""
    log = short_log()
    (name,) = segments_of(log.disk)
    (vote, _), *behind = [(place, frame) for place, frame in frames_of(log.disk, name) if frame.batch >= 2]
    assert [frame.type for _, frame in behind] == [RecordType.ENTRY] * 3
    end = behind[-1][0]
    wiped = log.disk.copy()
    wiped.names[name].current[behind[0][0] : end] = bytes(end - behind[0][0])
    found, damage = salvage(wiped)
    assert damage is not None
    assert (found.last_index, damage.held_index, damage.hard_state) == (3, 6, VOTE)

    # With the vote itself it is another matter: nobody knows what it was.
    wiped = log.disk.copy()
    wiped.names[name].current[vote:end] = bytes(end - vote)
    found, damage = salvage(wiped)
    assert damage is not None
    assert (found.last_index, damage.held_index, damage.hard_state) == (3, 6, None)


def test_a_newest_segment_that_was_cut_short_may_have_lost_a_vote() -> None:
    log = short_log()
    (name,) = segments_of(log.disk)
    file = log.disk.names[name]
    file.resize(frames_of(log.disk, name)[-1][0] + 7)
    file.sync()
    found, damage = salvage(log.disk)
    assert damage is not None
    assert (found.last_index, damage.hard_state) == (5, None)


def test_the_term_in_which_a_recovered_cluster_begins_is_counted() -> None:
    """A log that begins behind a snapshot, and whose first record is damaged: its term must not be taken for none."""
    disk = CrashDisk()
    found_log(disk, SEED, Head(VOTE, 10, meta(10, 2)))
    log = Log(disk)
    log.write(entry(11, 3))
    log.write(entry(12, 3))
    disk.flip(segment_name(1), HEADER_BYTES + FRAME_BYTES)
    _, damage = salvage(disk)
    assert damage is not None
    assert damage.hard_state is None


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
