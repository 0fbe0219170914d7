"""How fast this is, on this machine, beside what the machine can do. `make bench`; not shipped.

See `docs/design/performance.md` for what is measured and why.
"""
