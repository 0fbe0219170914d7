"""The example of a custom storage engine: it runs, and passes the suite."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from examples.custom_storage import SqliteStorage

from d_engine.format.errors import CorruptionError
from d_engine.storage.api import LogStorage
from d_engine.testing.storage_suite import StorageSuite, entries

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_storage.py"


class TestSqlite(StorageSuite):
    @pytest.fixture(autouse=True)
    def _begin(self, tmp_path: Path) -> None:
        self.path = tmp_path / "log.sqlite"
        self.soon: list[Callable[[], None]] = []
        self.last: SqliteStorage | None = None

    def open(self) -> LogStorage:
        self.soon.clear()
        if self.last is not None:
            self.last._database.close()  # as the end of its process would
        self.last = SqliteStorage(self.path, self.soon.append)
        return self.last

    def settle(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    def test_damage_is_named(self) -> None:
        opened = self._open()
        opened.write(*entries(1, 3))
        opened.storage.close()
        storage = SqliteStorage(self.path, self.soon.append)
        storage._database.execute("UPDATE entries SET data = x'00' WHERE place = 2")
        with pytest.raises(CorruptionError, match="entry 2 is damaged"):
            storage.recover()
        storage.close()


def test_it_runs() -> None:
    result = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, timeout=60, check=False)
    assert (result.stderr, result.stdout) == (b"", b"started 3 times\n")
