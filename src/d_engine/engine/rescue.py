"""Recovering a cluster that has lost its majority for good, from one surviving data directory (docs/operations/
losing-quorum.md). What the new directory is like, and why, is told in `d_engine.replica.rescue`; here are the real
directories, and the members that must not be alive.
"""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from d_engine.engine.directory import make_data_directory
from d_engine.engine.parts import StateMachineFactory
from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import ConfigError, CorruptionError, DataDirectoryError
from d_engine.format.messages import SnapshotMeta
from d_engine.kv.machine import KvStateMachine
from d_engine.replica.rescue import NewIdentity, Survivor
from d_engine.runtime.address import UnixAddress, parse_address
from d_engine.runtime.disk import FileDisk
from d_engine.runtime.read_only_disk import ReadOnlyDisk
from d_engine.storage.identity import INCARNATION_BITS
from d_engine.storage.inspection import DirectoryReport, Inspection

ANSWER_SECONDS = 2.0
_CLUSTER_BITS = 63
_SEED_BITS = 32
_CLOSE_SECONDS = 60.0


class Surviving:
    """A surviving data directory, which is only read. A context manager: meanwhile no node can start on it.

    `report` is what `d-engine inspect` says, `state` is what its log leads to. With damage in it, that is what stands
    in front of the damage.
    """

    def __init__(self, directory: str | Path, state_machine: StateMachineFactory = KvStateMachine) -> None:
        """Raises `StorageError`: the directory is in use, is none, or its state cannot be rebuilt."""
        self.path = Path(directory)
        self._disk = ReadOnlyDisk(directory)
        try:
            if not self._disk.files():
                raise DataDirectoryError(f"the directory {directory} is empty: no node has used it")
            inspection = Inspection(self._disk)
            self.report: DirectoryReport = inspection.report
            self.state = Survivor(self._disk, inspection, state_machine())
        except BaseException:
            self._disk.close()
            raise

    def recover(self, target: str | Path, *, despite_damage: bool = False) -> SnapshotMeta:
        """Write the new directory `target`, which must not exist or be empty. Once, and then the state is used up.

        Raises `CorruptionError` if this directory is damaged, unless what stands in front of the damage is said to be
        enough; `DataDirectoryError`, `InvalidRequestError`, or what the disk raises, and then no node starts on
        `target`.
        """
        if not self.report.node_id:
            raise CorruptionError(f"{self.path} does not tell whose it is: {self.report.damage[0]}")
        if self.report.damage and not despite_damage:
            raise CorruptionError(f"{self.path} is damaged: {self.report.damage[0]}")
        make_data_directory(str(target))
        called: SimpleQueue[Callable[[], None]] = SimpleQueue()
        disk = FileDisk(target, called.put)
        try:
            if disk.files():
                raise DataDirectoryError(
                    f"{target} is not empty; name a directory that does not exist, or remove what an interrupted"
                    " attempt has left there"
                )
            bits = random.SystemRandom().getrandbits
            identity = NewIdentity(bits(_CLUSTER_BITS) or 1, bits(INCARNATION_BITS) or 1, bits(_SEED_BITS))
            return self.state.write(disk, identity, lambda: called.get()())
        finally:
            disk.close(_CLOSE_SECONDS)

    def close(self) -> None:
        """Others may use the directory again."""
        self._disk.close()

    def __enter__(self) -> "Surviving":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


async def answering(configuration: Configuration) -> list[Member]:
    """The members whose addresses take a connection: they live, or something else has taken their place. This node's
    own must not either: nobody runs on its directory, so it would run on a copy."""
    members = [member for member in configuration.members if member.address]
    found = await asyncio.gather(*(_answers(member.address) for member in members))
    return [member for member, answers in zip(members, found, strict=True) if answers]


async def _answers(address: str) -> bool:
    try:
        where = parse_address(address)
        async with asyncio.timeout(ANSWER_SECONDS):
            if isinstance(where, UnixAddress):
                _, writer = await asyncio.open_unix_connection(where.path)
            else:
                _, writer = await asyncio.open_connection(where.host, where.port)
    except (OSError, TimeoutError, ConfigError):
        return False
    writer.close()
    return True
