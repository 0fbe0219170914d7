"""`python -m tests.raft.scenarios [--rewrite] [NAME ...]`: run the scenarios, or write down what they do now."""

import difflib
import sys

from tests.raft.scenario_runner import run_text, scenario_files


def main(arguments: list[str]) -> int:
    rewrite = "--rewrite" in arguments
    names = [argument for argument in arguments if not argument.startswith("-")]
    failed = 0
    for path in scenario_files():
        if names and path.stem not in names:
            continue
        before = path.read_text()
        try:
            after = run_text(before)
        except AssertionError as error:
            print(f"{path.stem}: {error}")
            failed += 1
            continue
        if after != before and rewrite:
            path.write_text(after)
            print(f"{path.stem}: rewritten")
        elif after != before:
            sys.stdout.writelines(
                difflib.unified_diff(before.splitlines(True), after.splitlines(True), path.stem)
            )
            failed += 1
    print(f"{failed} of {len(scenario_files())} scenarios failed" if failed else "all scenarios hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
