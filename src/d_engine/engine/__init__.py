"""Nodes to embed in a process or to run as a service."""
