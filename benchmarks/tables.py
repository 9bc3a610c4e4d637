"""The recipe for tables beside gradient boosting, on tables of scikit-learn, with five divisions of each.

python -m benchmarks.tables [--seeds 5] [name...]
"""

import argparse
import contextlib
import csv
import io
import json
import tempfile
from pathlib import Path

import numpy as np
from sklearn import datasets

from fourbeat.recipes import table
from fourbeat.recipes.columns.scores import is_better, shown

NAMES = ("breast_cancer", "diabetes", "digits", "wine")


def main() -> None:
    """Prints a line for each table, score and way to predict: the mean over the divisions, and the range."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="name", help=", ".join(NAMES))
    parser.add_argument("--seeds", type=int, default=5)
    flags = parser.parse_args()
    heads = ("network", "gradient boosting")
    print(f"{'table':15} {'score':19} {heads[0]:28} {heads[1]:28} {'constant':10} network is better")
    for name in flags.names:
        seeds = [scores_of(name, seed) for seed in range(flags.seeds)]
        for score in seeds[0]["test"]:
            values = {part: np.array([each[part][score] for each in seeds]) for part in seeds[0]}
            cells = [
                f"{shown(values[part].mean())} ({shown(values[part].min())} to {shown(values[part].max())})"
                for part in ("test", "boosting")
            ]
            better = sum(
                is_better(score, *pair) for pair in zip(values["test"], values["boosting"], strict=True)
            )
            constant = shown(values["constant"].mean())
            print(
                f"{name:15} {score:19} {cells[0]:28} {cells[1]:28} {constant:10} {better} of {flags.seeds}",
                flush=True,
            )


def scores_of(name: str, seed: int) -> dict[str, dict[str, float]]:
    """The scores of the test rows of one division: by way to predict, by name."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file, run = write(name, Path(folder)), Path(folder) / "run"
        table.train(table.Table(file, "target", out=run, seed=seed))
        line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    parts = ("test", "boosting", "constant")
    return {
        part: {
            k.removeprefix(f"{part}_"): v for k, v in line.items() if k.startswith(part) and np.isscalar(v)
        }
        for part in parts
    }


def write(name: str, folder: Path) -> Path:
    """A table of scikit-learn as CSV, the classes by their names."""
    data = getattr(datasets, f"load_{name}")()
    target = data.target
    if name in ("breast_cancer", "wine"):
        target = np.array(data.target_names)[target]
    with (folder / f"{name}.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*data.feature_names, "target"])
        rows.writerows([*map(float, x), y] for x, y in zip(data.data, target, strict=True))
    return folder / f"{name}.csv"


if __name__ == "__main__":
    main()
