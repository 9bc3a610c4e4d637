"""`python -m benchmarks.step_instructions [SIDE ...]`: the machine instructions of a step, with safety on."""

import argparse
import sys

from benchmarks.counted_steps import megainstructions
from benchmarks.machine import num_threads
from benchmarks.works import safety


def main() -> None:
    """Counts, and prints."""
    work = safety.WORKS[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_instructions")
    parser.add_argument(
        "sides", nargs="*", choices=[*work.sides, []], metavar="SIDE", help=", ".join(work.sides)
    )
    chosen = parser.parse_args().sides or work.sides
    sides = {name: work.sides[name] for name in dict.fromkeys([work.against, *chosen])}
    settings = {"threads": num_threads(), "job": work.job}
    counts = megainstructions(settings, sides, lambda line: print(line, file=sys.stderr, flush=True))
    unit = counts.get(work.against, {}).get("megainstructions", float("nan"))
    for name, fact in counts.items():
        count = fact["megainstructions"]
        print(f"{name:16s} {count:9.2f} million instructions a step   {count / unit:.4f} x {work.against}")


if __name__ == "__main__":
    main()
