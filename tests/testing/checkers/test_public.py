"""The package's face: everything that is public, from one place, and independent of the engine."""

import ast
import sys
from pathlib import Path

import d_engine.testing.checkers as checkers

SOURCES = sorted(Path(checkers.__file__).parent.glob("*.py"))


def test_every_public_name_is_there() -> None:
    assert sorted(checkers.__all__) == checkers.__all__
    for name in checkers.__all__:
        assert getattr(checkers, name).__doc__ or name in ("Key", "Value")


def test_the_checkers_stand_alone() -> None:
    """They must be able to judge any engine, so they use nothing of this one, and no clock or chance either."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            modules = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for module in modules:
                package = module.partition(".")[0]
                assert module.startswith("d_engine.testing.checkers") or package in sys.stdlib_module_names
                assert package not in ("time", "random", "datetime", "os", "threading", "asyncio")
