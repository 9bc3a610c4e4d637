"""A line through noisy points in plain JAX and Optax: the whole fit in one file that is yours.

    python train.py --steps 1000

Read it from top to bottom: the points, the parameters, the loss, one step, and all steps in one call.
It needs `jax`, `optax` and `numpy`.
"""

import argparse
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

TRUE_WEIGHT, TRUE_BIAS, NOISE = 2.0, -1.0, 0.5


# 1. The data: points about the true line.


def make_points(num_points: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """Coordinates x and y of each point."""
    random = np.random.RandomState(seed)
    x = random.uniform(-2, 2, num_points).astype(np.float32)
    noise = NOISE * random.standard_normal(num_points)
    y = (TRUE_WEIGHT * x + TRUE_BIAS + noise).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(y)


# 2. The parameters: all that training changes. They are values that go in and come out, never hidden.


class Params(NamedTuple):
    """A line: weight * x + bias."""

    weight: jax.Array
    bias: jax.Array


# 3. The loss: the mean squared error.


def loss_fn(params, x, y):
    """How far the line is from the points."""
    return ((params.weight * x + params.bias - y) ** 2).mean()


# 4. One step: the gradient of the loss, and an update against it.


def train_step(optimizer, params, optimizer_state, x, y):
    """The parameters and the optimizer's state after one step, and the loss before it."""
    loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
    updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
    return optax.apply_updates(params, updates), optimizer_state, loss


# 5. All steps, compiled into one call: `scan` is a `for` that stays on the device.


@partial(jax.jit, static_argnames="steps")
def fit(params, x, y, learning_rate, *, steps):
    """The parameters after all steps, and the loss of each."""
    optimizer = optax.sgd(learning_rate)

    def body(carry, _):
        params, optimizer_state = carry
        params, optimizer_state, loss = train_step(optimizer, params, optimizer_state, x, y)
        return (params, optimizer_state), loss

    (params, _), losses = jax.lax.scan(body, (params, optimizer.init(params)), length=steps)
    return params, losses


def train(*, steps=1_000, num_points=128, learning_rate=0.01, seed=0) -> Params:
    """Fits, prints, and returns the line."""
    x, y = make_points(num_points, seed)
    start = Params(weight=jnp.zeros(()), bias=jnp.zeros(()))
    params, losses = fit(start, x, y, learning_rate, steps=steps)
    print(f"fit   weight {float(params.weight):+.4f}   bias {float(params.bias):+.4f}")
    print(f"true  weight {TRUE_WEIGHT:+.4f}   bias {TRUE_BIAS:+.4f}   noise {NOISE}")
    print(f"loss  {float(losses[0]):.4f} -> {float(losses[-1]):.4f}")
    return params


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fits a line to noisy points.", allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--num-points", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0, help="of the points and their noise")
    train(**vars(parser.parse_args()))
