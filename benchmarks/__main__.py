"""`python -m benchmarks [dispatch] [mnist-cnn] [waiting] [--rounds N]`: prints the tables."""

import argparse

from benchmarks import dispatch, mnist_cnn, waiting

REPORTS = {"dispatch": dispatch.report, "mnist-cnn": mnist_cnn.report, "waiting": waiting.report}


def main() -> None:
    """Runs the chosen benchmarks, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="fourbeat's benchmarks")
    parser.add_argument("names", nargs="*", choices=[*REPORTS, []], help="which; all by default")
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds of each side")
    arguments = parser.parse_args()
    for name in arguments.names or REPORTS:
        print(REPORTS[name](arguments.rounds), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
