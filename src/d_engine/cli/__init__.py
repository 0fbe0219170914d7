"""The command line: `d-engine`. It needs the extra `cli`."""

import signal
import sys


def main() -> None:
    """The console script."""
    if sys.argv[1:2] == ["serve"]:
        # Loading the program takes a moment. Asked to end within it, a node that has not begun ends well.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        from d_engine.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        print(
            f"d-engine: the command line needs {error.name}; install it with: pip install 'd-engine[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(6) from None
    app()
