"""`python -m benchmarks.kills`: the main job killed at random moments and resumed, against one never killed.

Prints kills, resumes, crashes, lost and doubled steps, and differing bits; exits with 1 where any is not 0.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from flax import nnx

import fourbeat as fb
from fourbeat.recipes import mnist_cnn


def command(directory: Path, num_steps: int, save_every: int) -> list[str]:
    """The command line, the same for a first start and for each resume."""
    flags = ["--steps", str(num_steps), "--save-every", str(save_every)]
    program = [sys.executable, "-c", "from fourbeat.cli import main; main()", "train", "mnist-cnn"]
    return [*program, *flags, "--out", str(directory), "--resume", "latest"]


def saved_steps(directory: Path) -> set[str]:
    """The names of the checkpoints that are there now."""
    return {path.name for path in (directory / "checkpoints").glob("step-*")}


def killed_run(arguments: argparse.Namespace, directory: Path) -> dict[str, int]:
    """Runs until it finishes, killed at `arguments.kills` random moments on the way."""
    chance = random.Random(arguments.seed)
    counts = {"kills": 0, "resumes": 0, "crashes": 0}
    for attempt in range(arguments.kills + 1):
        before = saved_steps(directory)
        process = subprocess.Popen(
            command(directory, arguments.steps, arguments.save_every),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        counts["resumes"] += bool(before)
        if attempt < arguments.kills:
            while saved_steps(directory) <= before and process.poll() is None:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, arguments.most_s))
            process.kill()
        _, errors = process.communicate()
        counts["kills"] += process.returncode == -9
        if process.returncode not in (0, -9):
            counts["crashes"] += 1
            print(errors.decode(), file=sys.stderr)
        if (directory / "result.json").exists():
            break
    return counts


def final_leaves(directory: Path) -> list[np.ndarray]:
    """Every array of the last checkpoint: state and early stopping."""
    config = mnist_cnn.MnistCNN()
    beats = fb.four_beats(mnist_cnn.loss_fn, mnist_cnn.make_optimizer(config), metrics=mnist_cnn.METRICS)
    like = {"state": beats.init(mnist_cnn.CNN(rngs=nnx.Rngs(0)))}
    with fb.Checkpoints(directory / "checkpoints") as checkpoints:
        tree, _ = checkpoints.restore(like, partial=True)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def main() -> None:
    """Runs both and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1_200)
    parser.add_argument("--save-every", type=int, default=5)
    parser.add_argument("--most-s", type=float, default=0.4, help="the longest time from a save to a kill")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        whole, killed = Path(root) / "whole", Path(root) / "killed"
        subprocess.run(
            command(whole, arguments.steps, arguments.save_every), check=True, stdout=subprocess.DEVNULL
        )
        counts = killed_run(arguments, killed)
        histories = [(path / "metrics.jsonl").read_text() for path in (whole, killed)]
        steps = [[json.loads(line)["step"] for line in text.splitlines()] for text in histories]
        pairs = zip(final_leaves(whole), final_leaves(killed), strict=True)
        differing = sum(one.tobytes() != other.tobytes() for one, other in pairs)
    counts["steps lost"] = len(set(steps[0]) - set(steps[1]))
    counts["steps doubled"] = len(steps[1]) - len(set(steps[1])) - len(steps[0]) + len(set(steps[0]))
    counts["histories that differ"] = int(histories[0] != histories[1])
    counts["arrays of the final state that differ"] = differing
    for name, count in counts.items():
        print(f"{name:42s} {count}")
    wrong = [count for name, count in counts.items() if name not in ("kills", "resumes")]
    sys.exit(1 if any(wrong) else 0)


if __name__ == "__main__":
    main()
