"""Something every 37 steps: a mark and an `if`.

python examples/every_37_steps.py
"""

import argparse

import optax
from mnist_mlp import init, loss_fn

import fourbeat as fb


def main() -> None:
    """Trains and prints the loss after steps 37, 74, and so on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    until = fb.at(steps=parser.parse_args().steps)
    beats = fb.four_beats(loss_fn, optax.adam(2e-3))
    state, step = beats.init(init()), fb.compile(beats.train_step)
    batches = fb.data.mnist()[0].batches(32, shuffle=True, seed=0, remainder="drop")
    log = fb.every(steps=37)
    for tick in fb.loop(batches, until=until, marks=[log]):
        state, logs = step(state, tick.batch)
        if log in tick:
            print(f"step {tick.step:4d}   loss {float(logs['loss']):.4f}")


if __name__ == "__main__":
    main()
