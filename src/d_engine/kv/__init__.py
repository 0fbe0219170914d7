"""The default state machine: keys and values with revisions. A pure function of the log."""
