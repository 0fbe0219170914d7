"""The consensus core: (state, event, now) -> effects."""
