"""Simulator, checkers and conformance suites, for our tests and yours."""

from d_engine.testing.plugin import SimulationFailed, simulate
from d_engine.testing.sim.application import Application, Command, Query

__all__ = ["Application", "Command", "Query", "SimulationFailed", "simulate"]
