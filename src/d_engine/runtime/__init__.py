"""The replica's ports for real: disk, sockets, clocks, threads."""
