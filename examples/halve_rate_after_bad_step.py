"""Half the learning rate after a bad step: the guard skips it, the loop decides what to do about it.

The rate rises until the loss explodes. A skipped step leaves the parameters as they are, but those of the
steps before it may be far off already: so the loop goes on from the last state that it held as good.

    python examples/halve_rate_after_bad_step.py
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fourbeat as fb
from fourbeat import guard


def make_data() -> fb.data.Arrays:
    """Points of a plane, with noise."""
    random = np.random.RandomState(0)
    x = random.standard_normal((512, 4)).astype(np.float32)
    return fb.data.Arrays(x=x, y=x.sum(1) + 0.1 * random.standard_normal(512).astype(np.float32))


def loss_fn(model, batch):
    """Squared error of each point."""
    return (batch["x"] @ model["w"] - batch["y"]) ** 2


def train(num_steps: int) -> fb.TrainState:
    """Trains with a rate that rises too far."""
    rising = optax.linear_schedule(0.02, 2.0, num_steps)
    beats = fb.four_beats(
        loss_fn, optax.sgd(rising), schedule=rising, guard=guard.skip(guard.Spike(window=20, factor=10.0))
    )
    state, step = beats.init({"w": jnp.zeros(4)}), fb.compile(beats.train_step)
    batches = make_data().batches(32, shuffle=True, seed=0, remainder="drop")
    good, look = jax.tree.map(jnp.copy, state), fb.every(steps=10)
    for tick in fb.loop(batches, until=fb.at(steps=num_steps), marks=[look]):
        state, logs = step(state, tick.batch)
        if look in tick and state.guard.num_bad > good.guard.num_bad:
            print(f"bad step {state.guard.step}; learning rate halved from {logs['learning_rate']:.3f}")
            held = jax.tree.map(jnp.copy, good)  # the step donates what it is given
            state = held.replace(step=state.step, lr_scale=state.lr_scale / 2)
        elif look in tick:
            good = jax.tree.map(jnp.copy, state)
    print(f"step {tick.step}: loss {logs['loss']:.4f}, learning rate {logs['learning_rate']:.3f}")
    return state


def main() -> None:
    """Trains and prints what was learned."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    learned = train(parser.parse_args().steps).params["w"]
    print("learned", ", ".join(f"{weight:.2f}" for weight in learned.tolist()))


if __name__ == "__main__":
    main()
