"""How long a save makes the loop of mnist-cnn stand still, and what it leaves in memory.

    python -m benchmarks.checkpoint_saves [--steps 3000] [--every 100]

The time of the call is taken twice: in the loop as it is, with steps under way on the device, and with
the device at rest, so that nothing is hidden behind them. Runs with and without saving take turns: what
a save costs the whole run is the difference, writing in the background included.
"""

import argparse
import statistics
import tempfile
import time

import jax
import optax
from flax import nnx

import fourbeat as fb
from fourbeat.checkpoints import Checkpoints
from fourbeat.recipes.mnist_cnn import CNN, loss_fn


def run(beats, step, batches, num_steps, save_every, *, at_rest=False):
    """Returns the seconds of the loop, the milliseconds of each save, and the live arrays it left."""
    state, blocked_ms = beats.init(CNN(rngs=nnx.Rngs(0)), key=0), []
    stopping = fb.EarlyStopping(patience=3, mode="max")
    saving = fb.every(steps=save_every)
    with tempfile.TemporaryDirectory() as directory, Checkpoints(directory) as checkpoints:
        checkpoints.save(0, {"state": state, "stopping": stopping})  # imports Orbax
        checkpoints.wait()
        num_arrays = len(jax.live_arrays())
        began = time.perf_counter()
        for tick in fb.loop(batches, until=fb.at(steps=num_steps), marks=[saving]):
            state, logs = step(state, tick.batch)
            del logs
            if saving in tick:
                if at_rest:
                    jax.block_until_ready(state)
                called = time.perf_counter()
                checkpoints.save(tick.step, {"state": state, "stopping": stopping})
                blocked_ms.append(1e3 * (time.perf_counter() - called))
        jax.block_until_ready(state)
        elapsed_s = time.perf_counter() - began
        checkpoints.wait()
        return elapsed_s, blocked_ms, len(jax.live_arrays()) - num_arrays


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--every", type=int, default=100)
    arguments = parser.parse_args()
    batches = fb.data.mnist()[0].batches(32, shuffle=True, seed=0, remainder="drop")
    metrics = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())
    beats = fb.four_beats(loss_fn, optax.adamw(5e-3, b1=0.9), metrics=metrics)
    step = fb.compile(beats.train_step)
    leaves = jax.tree.leaves(beats.init(CNN(rngs=nnx.Rngs(0)), key=0))
    print(f"{len(leaves)} leaves, {sum(leaf.nbytes for leaf in leaves) / 1e6:.1f} MB")
    never = arguments.steps + 1
    run(beats, step, batches, 100, never)  # compiles
    for name, save_every, at_rest in (
        ("no saves", never, False),
        ("saves, steps under way", arguments.every, False),
        ("saves, device at rest", arguments.every, True),
        ("no saves", never, False),
    ):
        elapsed_s, ms, left = run(beats, step, batches, arguments.steps, save_every, at_rest=at_rest)
        line = f"{name:24} {elapsed_s:6.2f} s, {left:+d} live arrays"
        if ms:
            p95 = statistics.quantiles(ms, n=20)[-1]
            line += f", {len(ms)} saves: median {statistics.median(ms):.2f} ms, p95 {p95:.2f} ms"
        print(line, flush=True)


if __name__ == "__main__":
    main()
