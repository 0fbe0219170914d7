"""`python -m d_engine.cli`: the command line without the console script."""

from d_engine.cli import main

main()
