"""The real disk: what it writes, what it reports, who may use it, how it ends. On a real directory."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest

from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import (
    DataDirectoryError,
    DataDirectoryLockedError,
    DEngineError,
    DiskError,
    DiskFullError,
    ForkedError,
)
from d_engine.runtime import disk as module
from d_engine.runtime.disk import FileDisk
from d_engine.storage.disk import (
    CreateFile,
    DiskOperation,
    Lane,
    RemoveFile,
    RenameFile,
    SyncDirectory,
    SyncFile,
    TruncateFile,
    WriteFile,
)
from d_engine.storage.identity import load_identity
from d_engine.storage.wal import WalStorage

SECONDS = 10


class Driver:
    """Stands for the loop: what is posted waits until `turn` runs it, on the test's thread."""

    def __init__(self) -> None:
        self.posted: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def turn(self) -> None:
        self.posted.get(timeout=SECONDS)()


class Bench:
    """A disk, and the answers of the lists that were submitted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.driver = Driver()
        self.disk = FileDisk(path, self.driver.posted.put)
        self.answers: list[DEngineError | None] = []

    def do(self, *operations: DiskOperation, lane: Lane = Lane.LOG) -> DEngineError | None:
        """Submit and wait."""
        self.disk.submit(lane, operations, self.answers.append)
        self.driver.turn()
        return self.answers.pop()


@pytest.fixture(name="bench")
def bench_in_a_directory(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.disk.close(SECONDS)


def failing(number: int, times: int = 1) -> Callable[..., None]:
    """A system call that fails so many times and then does nothing."""
    left = [times]

    def call(*arguments: object) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))

    return call


# --- operations ------------------------------------------------------------------------------------------------------


def test_operations_do_what_they_say(bench: Bench) -> None:
    assert bench.do(CreateFile("a", 300_000), SyncDirectory(), lane=Lane.BACKGROUND) is None
    assert (bench.path / "a").read_bytes() == bytes(300_000)
    assert bench.do(WriteFile("a", 10, (b"one", b"", b"two")), SyncFile("a")) is None
    assert bench.disk.read("a", 9, 8) == b"\0onetwo\0"
    assert bench.do(RenameFile("a", "b"), TruncateFile("b", 12)) is None
    assert bench.disk.files() == ["b"]
    assert bench.disk.read("b", 0, 100) == bytes(10) + b"on"
    assert bench.disk.read("b", 12, 100) == b""
    assert bench.do(TruncateFile("b", 20)) is None
    assert bench.disk.size("b") == 20
    assert bench.do(RemoveFile("b"), RemoveFile("b")) is None
    assert bench.disk.files() == []


def test_a_file_is_made_anew_and_replaced(bench: Bench) -> None:
    bench.disk.run((CreateFile("a", 3), WriteFile("a", 0, (b"old",)), CreateFile("b", 0)))
    bench.disk.run((WriteFile("b", 0, (b"new",)), SyncFile("b"), RenameFile("b", "a")))
    bench.disk.run((WriteFile("a", 3, (b"er",)),))
    assert (bench.path / "a").read_bytes() == b"newer"
    bench.disk.run((CreateFile("a", 2),))
    assert (bench.path / "a").read_bytes() == bytes(2)
    assert bench.disk.files() == ["a"]


def test_more_parts_than_one_call_takes(bench: Bench) -> None:
    parts = [bytes([value % 256]) * (value % 5) for value in range(3 * os.sysconf("SC_IOV_MAX") + 7)]
    assert bench.do(CreateFile("a", 0), WriteFile("a", 0, parts)) is None
    assert (bench.path / "a").read_bytes() == b"".join(parts)


def test_a_write_that_is_taken_in_pieces(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def reluctant(descriptor: int, parts: Sequence[bytes], offset: int) -> int:
        return real(descriptor, [b"".join(parts)[:7]], offset)

    monkeypatch.setattr(os, "pwritev", reluctant)
    parts = [b"abc", b"", b"defghijklmnop", b"q", b"rstu", b"vwxyz" * 10]
    bench.disk.run((CreateFile("a", 0), WriteFile("a", 5, parts)))
    assert (bench.path / "a").read_bytes() == bytes(5) + b"".join(parts)
    monkeypatch.setattr(os, "pwritev", lambda descriptor, parts, offset: 0)
    with pytest.raises(DiskError, match="EIO"):
        bench.disk.run((WriteFile("a", 0, (b"x",)),))


def test_answers_come_in_order_and_never_from_within_submit(bench: Bench) -> None:
    order: list[int] = []
    bench.disk.run((CreateFile("a", 4096),))
    for number in range(20):
        operations = (WriteFile("a", number, (b"x",)),)
        bench.disk.submit(Lane.LOG, operations, lambda error, number=number: order.append(number))  # type: ignore[misc]
    assert order == []
    for _ in range(20):
        bench.driver.turn()
    assert order == list(range(20))


def test_a_hung_background_does_not_hold_up_the_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.disk.run((CreateFile("a", 10), CreateFile("b", 10)))
    go_on = threading.Event()
    real = os.ftruncate

    def hang(descriptor: int, size: int) -> None:
        go_on.wait(SECONDS)
        real(descriptor, size)

    monkeypatch.setattr(os, "ftruncate", hang)
    answers: list[str] = []
    bench.disk.submit(Lane.BACKGROUND, (TruncateFile("b", 5),), lambda error: answers.append("background"))
    bench.disk.submit(
        Lane.LOG, (WriteFile("a", 0, (b"x",)), SyncFile("a")), lambda error: answers.append("log")
    )
    bench.driver.turn()
    assert answers == ["log"]
    go_on.set()
    bench.driver.turn()
    assert answers == ["log", "background"]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EIO, DiskError),
        (errno.EROFS, DiskError),
    ],
)
def test_what_the_system_says_is_told_apart(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[DEngineError]
) -> None:
    bench.disk.run((CreateFile("a", 10),))
    monkeypatch.setattr(os, "pwritev", failing(number))
    error = bench.do(WriteFile("a", 0, (b"x",)), RemoveFile("a"))
    assert type(error) is kind
    assert "WriteFile a" in str(error)
    assert errno.errorcode[number] in str(error)
    assert bench.disk.files() == ["a"], "the first failure ends the list"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_file_is_not_used_after_a_failed_sync(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    bench.disk.run((CreateFile("a", 10), CreateFile("b", 10)))
    monkeypatch.setattr(os, "fdatasync", failing(number))
    error = bench.do(WriteFile("a", 0, (b"x",)), SyncFile("a"))
    assert type(error) is DiskError
    assert f"syncing a failed: [errno {number}" in str(error)
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    monkeypatch.setattr(os, "pwritev", lambda *arguments: calls.append(0))
    for operation in (SyncFile("a"), WriteFile("a", 0, (b"x",)), TruncateFile("a", 0), RenameFile("a", "c")):
        assert isinstance(bench.do(operation), DiskError)
    assert calls == []
    assert bench.do(SyncFile("b")) is None
    assert bench.do(RemoveFile("a")) is None


def test_a_directory_is_not_synced_after_a_failed_sync(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    assert isinstance(bench.do(SyncDirectory()), DiskError)
    assert isinstance(bench.do(SyncDirectory()), DiskError)


def test_a_file_that_cannot_be_filled_takes_no_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in ("posix_fallocate", "pwritev", "fdatasync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(errno.ENOSPC))
            assert isinstance(bench.do(CreateFile("a", 10)), DiskFullError)
            assert bench.disk.files() == []
    assert bench.do(CreateFile("a", 10), SyncFile("a")) is None


def test_what_is_not_there_is_reported(bench: Bench) -> None:
    with pytest.raises(DiskError, match="reading a failed"):
        bench.disk.read("a", 0, 1)
    with pytest.raises(DiskError, match="looking at a failed"):
        bench.disk.size("a")
    assert isinstance(bench.do(WriteFile("a", 0, (b"x",))), DiskError)
    with pytest.raises(DiskError):
        bench.disk.run((SyncFile("a"),))


def test_any_other_exception_of_a_lane_is_reported_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise MemoryError("planted")

    bench.disk.run((CreateFile("a", 10),))
    monkeypatch.setattr(os, "pwritev", broken)
    error = bench.do(WriteFile("a", 0, (b"x",)))
    assert isinstance(error, DiskError)
    assert isinstance(error.__cause__, MemoryError)


# --- the directory ---------------------------------------------------------------------------------------------------


def test_a_directory_has_one_user(bench: Bench) -> None:
    with pytest.raises(DataDirectoryLockedError, match=rf"process with the id {os.getpid()}:"):
        Bench(bench.path)
    bench.disk.close(SECONDS)
    again = Bench(bench.path)
    assert again.disk.files() == []
    assert again.disk.close(SECONDS)


def test_another_process_is_kept_out(bench: Bench) -> None:
    program = (
        "import sys; from d_engine.runtime.disk import FileDisk\n"
        "try: FileDisk(sys.argv[1], print)\n"
        "except Exception as error: print(error.code, error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(bench.path)]
    answer = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert answer.stdout.startswith("data_directory_locked")
    assert f"id {os.getpid()}:" in answer.stdout


def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("missing", "file"):
        with pytest.raises(DataDirectoryError, match=f"{name} cannot be opened"):
            Bench(tmp_path / name)
    real = os.open

    def read_only(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(DataDirectoryError, match="cannot be written"):
            Bench(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", failing(errno.ENOLCK))
        with pytest.raises(DataDirectoryError, match="cannot be locked"):
            Bench(tmp_path)
    Bench(tmp_path).disk.close(SECONDS)


def test_what_is_not_ours_is_not_listed(bench: Bench) -> None:
    (bench.path / "lost+found").mkdir()
    (bench.path / "other").write_bytes(b"")
    assert bench.disk.files() == ["other"]


def test_a_forked_child_neither_uses_nor_locks_it(bench: Bench) -> None:
    told, tell = os.pipe()
    woken, wake = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks with threads
        child = os.fork()
    if child == 0:
        try:
            bench.disk.files()
        except ForkedError:
            bench.disk.close(SECONDS)
            os.write(tell, b"refused")
        os.read(woken, 1)
        os._exit(0)
    try:
        assert os.read(told, 100) == b"refused"
        assert bench.do(CreateFile("a", 1)) is None
        assert bench.disk.close(SECONDS)
        Bench(bench.path).disk.close(SECONDS)
    finally:
        os.write(wake, b"x")
        os.waitpid(child, 0)
        for descriptor in (told, tell, woken, wake):
            os.close(descriptor)


# --- the end ---------------------------------------------------------------------------------------------------------


def test_closing_drops_what_waits_and_tells_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.disk.run((CreateFile("a", 10),))
    began, go_on = threading.Event(), threading.Event()

    def hang(descriptor: int) -> None:
        began.set()
        go_on.wait(SECONDS)

    monkeypatch.setattr(os, "fdatasync", hang)
    bench.disk.submit(Lane.LOG, (SyncFile("a"),), bench.answers.append)
    bench.disk.submit(Lane.LOG, (RemoveFile("a"),), bench.answers.append)
    assert began.wait(SECONDS)
    assert not bench.disk.close(0.01), "a hung sync delays the end no longer than its time-out"
    with pytest.raises(DataDirectoryLockedError):
        Bench(bench.path)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("d-engine-"):
            thread.join(SECONDS)
    assert bench.driver.posted.empty()
    assert (bench.path / "a").exists()
    Bench(bench.path).disk.close(SECONDS)


def test_closing_ends_the_filling_of_a_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slices: list[int] = []
    filling = threading.Event()
    real = os.pwritev

    def write(descriptor: int, parts: Sequence[bytes], offset: int) -> int:
        slices.append(offset)
        filling.set()
        go_on.wait(SECONDS)
        return real(descriptor, parts, offset)

    go_on = threading.Event()
    monkeypatch.setattr(os, "pwritev", write)
    bench.disk.submit(Lane.BACKGROUND, (CreateFile("a", 10 * len(module._SLICE)),), bench.answers.append)
    assert filling.wait(SECONDS)
    bench.disk.close(0.0)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("d-engine-"):
            thread.join(SECONDS)
    assert slices == [0]


def test_a_loop_that_is_closed_ends_the_lane(tmp_path: Path) -> None:
    def closed(function: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    disk = FileDisk(tmp_path, closed)
    disk.submit(Lane.LOG, (), lambda error: None)
    for thread in threading.enumerate():
        if thread.name == "d-engine-log":
            thread.join(SECONDS)
    assert disk.close(SECONDS)


def test_a_descriptor_for_each_file_and_none_for_those_that_are_gone(tmp_path: Path) -> None:
    """I14: segments and snapshots come and go for as long as the node lives."""
    bench = Bench(tmp_path)
    few = len(os.listdir("/proc/self/fd")) + 2
    for number in range(50):
        bench.do(CreateFile("new.tmp", 1), WriteFile("new.tmp", 0, (b"x",)), SyncFile("new.tmp"))
        bench.do(
            RenameFile("new.tmp", f"log-{number}"), RenameFile(f"log-{number}", "snapshot"), SyncDirectory()
        )
        bench.do(CreateFile(f"log-{number}", 1), RemoveFile(f"log-{number - 1}"))
        assert len(os.listdir("/proc/self/fd")) <= few
    assert bench.disk.close(SECONDS)


def test_closing_twice_is_harmless_and_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    bench = Bench(tmp_path)
    bench.do(CreateFile("a", 1), CreateFile("b", 1), RenameFile("a", "b"), WriteFile("b", 0, (b"x",)))
    assert bench.disk.close(SECONDS)
    assert bench.disk.close(SECONDS)
    assert len(os.listdir("/proc/self/fd")) == before


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.fixture(name="restless")
def threads_switch_all_the_time() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
def test_nothing_is_lost_or_doubled_between_the_threads(bench: Bench) -> None:
    """Both lanes at once, each list answered exactly once, in its lane's order."""
    count = 3000
    bench.disk.run((CreateFile("log", 8), CreateFile("background", 8)))
    answered: dict[Lane, list[int]] = {lane: [] for lane in Lane}
    for number in range(count):
        for lane in Lane:
            operations = (WriteFile(lane.value, 0, (number.to_bytes(8, "little"),)),)

            def done(error: DEngineError | None, lane: Lane = lane, number: int = number) -> None:
                assert error is None
                answered[lane].append(number)

            bench.disk.submit(lane, operations, done)
        if number % 7 == 0 and not bench.driver.posted.empty():
            bench.driver.turn()
    while sum(map(len, answered.values())) < 2 * count:
        bench.driver.turn()
    assert bench.driver.posted.empty()
    for lane in Lane:
        assert answered[lane] == list(range(count))
        assert bench.disk.read(lane.value, 0, 8) == (count - 1).to_bytes(8, "little")


@pytest.mark.usefixtures("restless")
def test_a_log_on_the_real_disk(tmp_path: Path) -> None:
    """Several segments, compaction on the way, and everything is there for the next process."""
    bench = Bench(tmp_path)
    load_identity(bench.disk, 1, lambda bits: 5)
    wal = WalStorage(bench.disk, 5, 65536)
    wal.recover()
    durable: list[int] = []
    trouble: list[object] = []
    wal.start(durable.append, trouble.append, trouble.append)
    entries = [Entry.create(EntryKind.COMMANDS, 1, index, 0, (b"x" * 300,), 1) for index in range(1, 1501)]
    for entry in entries:
        wal.append(entry.index, None, (entry,))
        if entry.index == 1000:
            wal.compact(700)
        if entry.index % 10 == 0:
            bench.driver.turn()
    while durable[-1:] != [1500]:
        bench.driver.turn()
    assert not trouble
    assert durable == sorted(set(durable))
    assert len(durable) < 1500
    wal.close()
    bench.disk.close(SECONDS)

    again = Bench(tmp_path)
    assert load_identity(again.disk, 1, lambda bits: 6) == 5
    log = WalStorage(again.disk, 5, 65536).recover()
    assert (log.first_index, log.last_index) == (701, 1500)
    assert log.tail == tuple(entries[700:])
    again.disk.close(SECONDS)


def test_a_tail_torn_at_any_byte_on_the_real_disk(tmp_path: Path) -> None:
    """Scenario 23. Two batches are synced; of the second one everything from some byte on is lost."""
    bench = Bench(tmp_path)
    wal = WalStorage(bench.disk, 5, 8192)
    wal.recover()
    durable: list[int] = []
    trouble: list[object] = []
    wal.start(durable.append, trouble.append, trouble.append)
    entries = [Entry.create(EntryKind.COMMANDS, 1, index, 0, (b"x" * 20,), 1) for index in range(1, 5)]
    name, sizes = "log-000000000001.wal", []
    for seq, batch in enumerate((entries[:2], entries[2:]), 1):
        wal.append(seq, None, batch)
        while durable[-1:] != [seq]:
            bench.driver.turn()
        sizes.append(len((tmp_path / name).read_bytes().rstrip(b"\0")))
    wal.close()
    bench.disk.close(SECONDS)
    assert not trouble
    whole = (tmp_path / name).read_bytes()

    found = []
    for end in range(sizes[0], sizes[1]):
        (tmp_path / name).write_bytes(whole[:end].ljust(len(whole), b"\0"))
        torn = Bench(tmp_path)
        found.append(WalStorage(torn.disk, 5, 8192).recover().last_index)
        torn.disk.close(SECONDS)
    assert found == sorted(found)
    assert set(found) == {2, 3}
