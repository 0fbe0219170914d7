"""Scenarios of the consensus core, one file each. The language is described in `tests.raft.scenario_runner`."""
