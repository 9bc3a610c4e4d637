"""`python -m benchmarks.metrics`: the largest difference of every metric from its oracle, for docs/scores.md.

The examples are random and weighted. They are seen at once, and in parts merged out of order.
"""

import argparse
from pathlib import Path

import jax

from tests.oracles.metrics_by_others import ROWS, every_metric, examples, expected, largest_difference

PAGE = Path(__file__).parents[1] / "docs" / "scores.md"
MARKS = "<!-- made by: python -m benchmarks.metrics -->\n", "<!-- end -->"
NUM_EXAMPLES, PART = 300, 100


def differences(num_seeds: int) -> dict[str, float]:
    """The largest difference of each metric, as a fraction of its oracle."""
    update = jax.jit(lambda metric, columns: metric.update(**columns))
    compute = jax.jit(lambda metric: metric.compute())
    largest = dict.fromkeys(ROWS, 0.0)
    for seed in range(num_seeds):
        columns = examples(NUM_EXAMPLES, seed)
        cut = [_part(columns, start) for start in range(0, NUM_EXAMPLES, PART)]
        first, second, third = (update(every_metric(), part) for part in cut)
        in_order = update(every_metric(), columns), first.merge(second.merge(third))
        wanted = expected(columns)
        for metric in (*in_order, third.merge(first).merge(second)):
            found = compute(metric)
            for name in ROWS:
                if name != "last" or metric in in_order:
                    largest[name] = max(largest[name], largest_difference(found[name], wanted[name]))
    return largest


def _part(columns: dict, start: int) -> dict:
    return {name: column[start : start + PART] for name, column in columns.items()}


def table(largest: dict[str, float]) -> str:
    """The lines of the page."""
    lines = [
        f"{NUM_EXAMPLES} random examples, a fifth of them of weight 0, were seen at once, and in parts that",
        "were merged out of order. The largest difference from the oracle, which computes in float64, is a",
        "fraction of its largest number.",
        "",
        "| metric | oracle | largest difference |",
        "|---|---|---|",
    ]
    lines += [f"| `{row.metric!r}` | {row.source} | {largest[name]:.0e} |" for name, row in ROWS.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    made = table(differences(parser.parse_args().seeds))
    before, rest = PAGE.read_text().split(MARKS[0])
    PAGE.write_text(before + MARKS[0] + made + MARKS[1] + rest.split(MARKS[1], 1)[1])
    print(made)


if __name__ == "__main__":
    main()
