"""`d-engine sim`: the simulator's own command line, unchanged."""

import click


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sim(arguments: tuple[str, ...]) -> None:
    """Simulate whole clusters under faults, from a seed. See `d-engine sim --help`."""
    from d_engine.testing.sim.command import (
        main,  # here, so that a server does not carry the simulator in its memory
    )

    raise SystemExit(main(arguments))
