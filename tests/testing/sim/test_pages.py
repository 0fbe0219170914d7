"""What a crash may leave of writes (scenario 23): nothing that was synced is lost, anything else may be."""

from random import Random

import pytest

from d_engine.testing.sim.pages import SECTOR_BYTES, PagedFile, Survival

OLD, NEW = b"o" * 2000, b"n" * 2000


def written(survival: Survival, seed: int) -> bytes:
    """A file whose first half was synced and whose whole was then written over, after power loss."""
    file = PagedFile(4000)
    file.write(0, OLD)
    file.sync()
    file.write(0, NEW)
    file.write(2000, NEW)
    file.lose_power(survival, Random(seed))
    return bytes(file.content)


def test_what_was_synced_stays() -> None:
    for survival in Survival:
        file = PagedFile(4000)
        file.write(100, OLD)
        file.sync()
        file.lose_power(survival, Random(1))
        assert file.content[100:2100] == OLD
        assert not file.dirty


def test_nothing_and_everything() -> None:
    assert written(Survival.NOTHING, 1) == OLD + bytes(2000)
    assert written(Survival.EVERYTHING, 1) == NEW + NEW


def test_a_beginning() -> None:
    found = {written(Survival.PREFIX, seed) for seed in range(40)}
    for content in found:
        kept = len(content.rstrip(b"\0")) if content[2000:].strip(b"\0") else content.count(b"n")
        assert content == (NEW + NEW)[:kept] + (OLD + bytes(2000))[kept:]
    assert len(found) > 5


def test_sectors_in_any_mixture() -> None:
    torn = 0
    for seed in range(20):
        content = written(Survival.SECTORS, seed)
        for start in range(0, 4000, SECTOR_BYTES):
            piece = content[start : start + SECTOR_BYTES]
            # The write at 2000 shares a sector with the one before it.
            if not start < 2000 < start + SECTOR_BYTES:
                assert len(set(piece)) == 1
        torn += content not in (OLD + bytes(2000), NEW + NEW)
    assert torn > 10


def test_after_a_failed_sync_no_later_one_helps() -> None:
    file = PagedFile(4000)
    file.write(0, OLD)
    file.sync_failed()
    assert file.content[:2000] == OLD
    file.sync()
    file.lose_power(Survival.EVERYTHING, Random(1))
    assert bytes(file.content) == bytes(4000)


@pytest.mark.parametrize("bit", [0, 7])
def test_rot_survives_power_loss(bit: int) -> None:
    file = PagedFile(4000)
    file.write(0, OLD)
    file.sync()
    file.flip_bit(5, bit)
    file.lose_power(Survival.NOTHING, Random(1))
    assert file.content[5] == ord("o") ^ (1 << bit)
    assert file.damaged
