"""d-engine: a strongly consistent key-value store over Raft, inside your process or as a service."""

from d_engine import _interpreter as _interpreter

__version__ = "0.1.0"
