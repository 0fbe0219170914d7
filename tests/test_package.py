"""The package's face: its version, and the interpreters that it refuses."""

import importlib
import sys
from importlib.metadata import version

import pytest

import d_engine
from d_engine import _interpreter


def test_version_is_that_of_the_distribution() -> None:
    assert d_engine.__version__ == version("d-engine")


def test_free_threaded_interpreter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(ImportError, match="GIL"):
        importlib.reload(_interpreter)


def test_interpreter_with_a_gil_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    importlib.reload(_interpreter)
