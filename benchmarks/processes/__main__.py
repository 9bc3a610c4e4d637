"""`python -m benchmarks.processes NAME ...`: runs trials, and writes their tables to docs/processes.md."""

import argparse

from benchmarks.processes import failures, kills, tables, topologies

TRIALS = {"failures": failures.run, "topologies": topologies.run, "kills": kills.run}


def main(arguments: list[str] | None = None) -> None:
    """Runs the chosen trials, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TRIALS)}")
    parser.add_argument("--only", help="a part of the names of the rows to run; nothing is written then")
    flags = parser.parse_args(arguments)
    for name in flags.names or TRIALS:
        table = TRIALS[name](flags.only)
        if flags.only is None:
            tables.write(name, table)


if __name__ == "__main__":
    main()
