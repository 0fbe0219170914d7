"""Simulator, checkers and conformance suites, for our tests and yours."""
