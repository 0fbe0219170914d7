"""The default state machine: a key-value store with leases and history, a pure function of the log."""
