"""Bad data in the middle of a run: back to the last good checkpoint, and on past the bad stretch.

A guard keeps single bad steps out by itself. Several in a row say that the data is at fault, and that the
steps just before them are not to be trusted either.

    python examples/rewind_past_bad_data.py
"""

import argparse
import tempfile

import jax.numpy as jnp
import numpy as np
import optax

import fourbeat as fb
from fourbeat import guard
from fourbeat.checkpoints import Checkpoints

BATCH_SIZE, BAD = 16, slice(90 * 16, 97 * 16)  # batches 90 to 96 are spoiled


def make_data() -> fb.data.Arrays:
    """Points of y = 3 x - 1, a stretch of them spoiled."""
    x = np.random.RandomState(0).uniform(-1, 1, (4_000, 1)).astype(np.float32)
    y = 3 * x[:, 0] - 1
    x[BAD] = np.nan
    return fb.data.Arrays(x=x, y=y)


def loss_fn(model, batch):
    """Squared error of each point."""
    return (batch["x"] @ model["w"] + model["b"] - batch["y"]) ** 2


def train(num_steps: int) -> fb.TrainState:
    """Trains; goes back where more than two bad steps in a row were seen."""
    batches = make_data().batches(BATCH_SIZE, remainder="drop")
    beats = fb.four_beats(loss_fn, optax.adam(0.05), guard=guard.skip())
    state = beats.init({"w": jnp.zeros(1), "b": jnp.zeros(())})
    step, save = fb.compile(beats.train_step), fb.every(steps=20)
    with Checkpoints(tempfile.mkdtemp()) as checkpoints:
        while int(state.step) < num_steps:
            for tick in fb.loop(batches, start=state.step, until=fb.at(steps=num_steps), marks=[save]):
                state, _ = step(state, tick.batch)
                if save in tick:
                    try:
                        guard.check(state, max_consecutive=2)
                    except guard.BadStepError as error:
                        print(error)
                        last_bad = int(state.guard.step)
                        state = checkpoints.restore(like=state)
                        print(f"back to step {state.step}, on from step {last_bad}")
                        state = state.replace(step=last_bad)  # the place in the data
                        break
                    checkpoints.save(tick.step, state)
    return state


def main() -> None:
    """Trains and prints what was learned."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=240)
    state = train(parser.parse_args().steps)
    print(f"learned y = {float(state.params['w'][0]):.2f} x + {float(state.params['b']):.2f}")


if __name__ == "__main__":
    main()
