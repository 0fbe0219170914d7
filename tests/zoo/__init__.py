"""The bug zoo: historic bugs, brought into copies of the sources, which the simulator must catch."""
