"""A run that is killed, and goes on with another number of processes, against one that nothing stops."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

import fourbeat as fb
from benchmarks.processes import resumed, tables
from tests.distributed import processes

PROGRAM = Path(__file__).parent / "resumed.py"
KILL_AT = 37  # after the save at step 32
HEAD = (
    "from", "to", "goes on from step", "devices", "differing bits of the state", "largest difference",
    "examples lost", "read twice", "order", "lines of the history lost or doubled",
)  # fmt: skip


class Over(NamedTuple):
    """Processes, and the devices of each."""

    processes: int
    devices: int

    def __str__(self) -> str:
        return f"{self.processes} process{'es' if self.processes > 1 else ''} x {self.devices}"


ONE, TWO, FOUR, SMALL = Over(1, 4), Over(2, 2), Over(4, 1), Over(2, 1)
CHANGES = [(TWO, TWO), (TWO, ONE), (ONE, TWO), (TWO, FOUR), (FOUR, TWO), (TWO, SMALL), (SMALL, TWO)]


def run(only: str | None) -> str:
    """Runs the topologies, and gives their table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        whole = root / "whole"
        start(TWO, whole, root / "whole-printed")
        killed: dict[Over, Path] = {}
        for number, (before, after) in enumerate(CHANGES):
            if only is not None and only not in f"{before} to {after}":
                continue
            if before not in killed:
                killed[before] = root / f"killed-{before}"
                start(before, killed[before], root / f"killed-{before}-printed", "--kill-at", str(KILL_AT))
            again = root / f"again-{number}"
            shutil.copytree(killed[before], again)
            start(after, again, root / f"again-{number}-printed")
            rows.append([str(before), str(after), *compared(again, whole, before, after)])
            print(" | ".join(rows[-1]), flush=True)
    return tables.markdown(HEAD, rows)


def start(over: Over, out: Path, printed: Path, *arguments: str) -> None:
    """Starts the program on that many processes, and waits for all of them."""
    done = processes.run(
        PROGRAM, over.processes, printed, devices=over.devices, arguments=[out, *arguments], kill_after_s=120
    )
    for index, each in enumerate(done):
        if each.status != 0 and not arguments:
            raise RuntimeError(
                f"process {index} of {over} ended with {each.status}:\n{each.output}{each.errors}"
            )


def compared(again: Path, whole: Path, before: Over, after: Over) -> list[str]:
    """The cells of one row."""
    begin = max(int(path.stem.split("-")[1]) for path in again.glob("seen-*.json"))
    pairs = list(zip(leaves(again), leaves(whole), strict=True))
    bits = sum(differing_bits(one, other) for one, other in pairs)
    most = max(float(np.max(np.abs(one.astype(np.float64) - other), initial=0)) for one, other in pairs)
    read, expected = examples(again, begin), examples(whole, 0)
    lost = sum((Counter(expected[step]) - Counter(read.get(step, ()))).total() for step in expected)
    twice = sum((Counter(read[step]) - Counter(expected.get(step, ()))).total() for step in read)
    lines = [
        [json.loads(line)["step"] for line in (path / "metrics.jsonl").open()] for path in (again, whole)
    ]
    history = (Counter(lines[0]) - Counter(lines[1])).total() + (
        Counter(lines[1]) - Counter(lines[0])
    ).total()
    devices = "the same" if before.processes * before.devices == after.processes * after.devices else "others"
    order = "the same" if list(read) == list(expected) and lines[0] == lines[1] else "differs"
    return [
        str(begin),
        devices,
        str(bits),
        f"{most:.1e}" if most else "0",
        str(lost),
        str(twice),
        order,
        str(history),
    ]


def leaves(path: Path) -> list[np.ndarray]:
    """Every array of the last state, read by this one process."""
    beats, make_model, _ = resumed.parts(fb, nnx, np, optax)
    with fb.Checkpoints(path / "checkpoints") as checkpoints:
        tree, _ = checkpoints.restore({"state": beats.init(make_model())}, partial=True)
    assert int(tree["state"].step) == resumed.STEPS
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def differing_bits(one: np.ndarray, other: np.ndarray) -> int:
    """How many bits differ."""
    bytes_of = lambda array: np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return int(np.bitwise_count(bytes_of(one) ^ bytes_of(other)).sum())


def examples(path: Path, begin: int) -> dict[int, list[int]]:
    """The examples that all processes read at each step, of what counts: up to `begin`, and after it."""
    found: dict[int, list[int]] = {}
    for began, seen in _read(path):
        for step, numbers in seen.items():
            if (began == 0 and (step <= begin or begin == 0)) or began == begin:
                found.setdefault(step, []).extend(numbers)
    return {step: sorted(found[step]) for step in sorted(found)}


def _read(path: Path) -> Iterator[tuple[int, dict[int, Any]]]:
    for file in sorted(path.glob("seen-*.json")):
        content = json.loads(file.read_text())
        yield int(file.stem.split("-")[1]), {int(step): numbers for step, numbers in content.items()}
