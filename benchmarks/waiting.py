"""What a person waits for: the import, and the first finished step of a new process."""

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.rounds import in_turn, table

FIRST_STEP = """
import jax, optax, fourbeat as fb
from flax import nnx
from fourbeat.recipes.mnist_cnn import CNN, loss_fn
train, _ = fb.data.mnist()
beats = fb.four_beats(loss_fn, optax.adamw(5e-3, b1=0.9))
state = beats.init(CNN(rngs=nnx.Rngs(0)))
jax.block_until_ready(fb.compile(beats.train_step)(state, train.batches(32, shuffle=True)[0]))
"""


def process(code: str) -> Callable[[], float]:
    """Seconds of a whole new process that runs `code`."""

    def run() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    return run


def report(rounds: int) -> str:
    """The table."""
    sides = {
        "import jax, flax, optax": process("import jax, flax, optax"),
        "import fourbeat": process("import fourbeat"),
        "first step of mnist-cnn, cold": process(FIRST_STEP),
    }
    return table("A new process", in_turn(sides, rounds), "s", 1.0, "import jax, flax, optax")
