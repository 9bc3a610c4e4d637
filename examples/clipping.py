"""Gradient clipping compared with none: two runs from the same start, their loss curves in one figure.

python examples/clipping.py --out clipping.png
"""

import argparse

import optax
from matplotlib.figure import Figure
from mnist_mlp import init, loss_fn

import fourbeat as fb


def train(tx: optax.GradientTransformation, num_steps: int) -> list[float]:
    """The loss of every step; they stay on the device until the end."""
    batches = fb.data.mnist()[0].batches(32, shuffle=True, seed=0, remainder="drop")
    beats = fb.four_beats(loss_fn, tx)
    state, step = beats.init(init()), fb.compile(beats.train_step)
    losses = []
    for tick in fb.loop(batches, until=fb.at(steps=num_steps)):
        state, logs = step(state, tick.batch)
        losses.append(logs["loss"])
    return [float(loss) for loss in losses]


def main() -> None:
    """Trains with and without clipping and draws both curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", default="clipping.png")
    arguments = parser.parse_args()
    descent = optax.sgd(1.0)  # too large for plain descent
    runs = {
        "no clipping": train(descent, arguments.steps),
        "clipped to norm 0.5": train(optax.chain(optax.clip_by_global_norm(0.5), descent), arguments.steps),
    }
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_subplot()
    for name, losses in runs.items():
        axes.plot(losses, label=name, linewidth=1)
        print(f"{name:20s} largest loss {max(losses):8.3f}   last loss {losses[-1]:.3f}")
    axes.set(xlabel="step", ylabel="loss", yscale="log", title="Gradient clipping")
    axes.legend()
    figure.savefig(arguments.out)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
