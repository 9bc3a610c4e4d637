"""`python -m benchmarks.replicas`: a step of several members against the step of one, in one process.

The ways take turns. The ratio is the median over the rounds, in each of which one member takes as many steps
as all of them together: so it holds on a machine that does other work too.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

import fourbeat as fb
from fourbeat.compiling import eigen_convolutions
from fourbeat.recipes import mnist_cnn

MEMBERS = 4
ROUNDS = 7


class MLP(nnx.Module):
    """784 to 64 to 10."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.up = nnx.Linear(784, 64, rngs=rngs)
        self.down = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(nnx.relu(self.up(x.reshape(x.shape[0], -1))))


def measured(make: Callable[..., Any], num_steps: int) -> dict[str, tuple[float, float]]:
    """A step and its first call, by way of stepping, each as a multiple of those of one member."""
    beats = fb.four_beats(mnist_cnn.loss_fn, optax.adamw(1e-3))
    random = np.random.default_rng(0)
    batch = {
        "image": jax.numpy.asarray(random.random((32, 28, 28, 1), np.float32)),
        "label": jax.numpy.asarray(random.integers(0, 10, 32, np.int32)),
    }
    seeds = {"seed": range(MEMBERS)}
    options: Any = {"compiler_options": eigen_convolutions()}
    kinds = {
        "one": (beats, beats.init(make(0))),
        "vmapped": (sweep := fb.replicas(beats, MEMBERS, over=seeds, vmapped=True), sweep.init(make)),
        "one after the other": (
            sweep := fb.replicas(beats, MEMBERS, over=seeds, vmapped=False),
            sweep.init(make),
        ),
    }
    steps, states, compiling_s = {}, {}, {}
    for name, (each, state) in kinds.items():
        start = time.perf_counter()
        steps[name] = fb.compile(each.train_step, **options)
        states[name] = jax.block_until_ready(steps[name](state, batch)[0])
        compiling_s[name] = time.perf_counter() - start
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            count = num_steps * (MEMBERS if name == "one" else 1)
            state, start = states[name], time.perf_counter()
            for _ in range(count):
                state, _ = step(state, batch)
            states[name] = jax.block_until_ready(state)
            seconds[name].append((time.perf_counter() - start) / count)
    ratios = {name: np.median(np.divide(each, seconds["one"])) for name, each in seconds.items()}
    return {name: (float(ratios[name]), compiling_s[name] / compiling_s["one"]) for name in kinds}


def main() -> None:
    """Prints a table: a step of all members, as a multiple of the step of one."""
    print(f"{MEMBERS} members, batch 32, adamw, on {jax.devices()[0].device_kind}\n")
    print("| model | way | a step, in steps of one | first call, in first calls of one |")
    print("|---|---|---|---|")
    for name, make, num_steps in (
        ("MLP, 784-64-10", lambda seed: MLP(rngs=nnx.Rngs(seed)), 100),
        ("CNN of mnist-cnn", lambda seed: mnist_cnn.CNN(rngs=nnx.Rngs(seed)), 3),
    ):
        seen = measured(make, num_steps)
        for way in ("vmapped", "one after the other"):
            step, first = seen[way]
            print(f"| {name} | {way} | {step:.1f} | {first:.1f} |")


if __name__ == "__main__":
    main()
