"""Warm-up and cosine: the schedule as planned, plotted against the learning rate that was applied.

python examples/warmup_cosine.py --out warmup_cosine.png
"""

import argparse

import optax
from matplotlib.figure import Figure
from mnist_mlp import init, loss_fn

import fourbeat as fb


def main() -> None:
    """Trains and draws the two curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", default="warmup_cosine.png")
    arguments = parser.parse_args()
    num_steps = arguments.steps
    schedule = optax.warmup_cosine_decay_schedule(0.0, 5e-3, max(num_steps // 10, 1), num_steps)
    beats = fb.four_beats(loss_fn, optax.adamw(schedule), schedule=schedule)
    state, step = beats.init(init()), fb.compile(beats.train_step)
    batches = fb.data.mnist()[0].batches(32, shuffle=True, seed=0, remainder="drop")
    rates = []
    for tick in fb.loop(batches, until=fb.at(steps=num_steps)):
        state, logs = step(state, tick.batch)
        rates.append(logs["learning_rate"])
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_subplot()
    axes.plot([float(schedule(n)) for n in range(num_steps)], label="schedule", linewidth=4, alpha=0.4)
    axes.plot([float(rate) for rate in rates], label="applied", linewidth=1)
    axes.set(xlabel="step", ylabel="learning rate", title="Warm-up and cosine")
    axes.legend()
    figure.savefig(arguments.out)
    largest = max(abs(float(rate) - float(schedule(n))) for n, rate in enumerate(rates))
    print(f"largest difference {largest:.1e}; written to {arguments.out}")


if __name__ == "__main__":
    main()
