"""One whole node, synchronous, over ports."""
