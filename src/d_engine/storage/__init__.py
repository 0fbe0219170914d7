"""Log, hard state and snapshots over a small disk port."""
