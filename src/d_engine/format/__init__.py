"""What everybody must agree on byte for byte: entries, groups, frames, limits and the error tree."""
