"""Refuses interpreters without a GIL at import: how we hand over between threads is proven under it only."""

import sys

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError(
        "d_engine needs an interpreter with the GIL; run this one with PYTHON_GIL=1 or -X gil=1"
    )
