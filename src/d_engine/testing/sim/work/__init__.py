"""What simulated clients do, one kind of work a file."""
