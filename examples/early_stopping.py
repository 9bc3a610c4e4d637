"""Early stopping on a small training set, the best weights kept by the loop, and the curve of it.

python examples/early_stopping.py --out early_stopping.png
"""

import argparse

import optax
from matplotlib.figure import Figure
from mnist_mlp import init, loss_fn

import fourbeat as fb


def main() -> None:
    """Trains until the validation loss has not improved for three epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", default="early_stopping.png")
    arguments = parser.parse_args()
    train_data, _ = fb.data.mnist()
    train_data, valid_data = train_data.split(59_000, seed=0)
    batches = train_data.batches(50, shuffle=True, seed=0, remainder="drop")
    beats = fb.four_beats(
        loss_fn, optax.adam(3e-3), metrics=fb.metrics.Collection(loss=fb.metrics.Mean("loss"))
    )
    state, step, evaluate = beats.init(init()), fb.compile(beats.train_step), fb.evaluator(beats)
    stopping, epoch_end, curves = fb.EarlyStopping(patience=3), fb.every(epochs=1), []
    for tick in fb.loop(batches, until=fb.at(epochs=arguments.epochs), marks=[epoch_end]):
        state, _ = step(state, tick.batch)
        if epoch_end in tick:
            seen, state = state.pop_metrics()
            scores = evaluate(state, valid_data[:5_000].batches(500))
            curves.append((seen["loss"], scores["loss"]))
            stopping = stopping.update(scores["loss"])
            if stopping.improved:
                best_params, best_epoch = state.replace(params=state.params).params, tick.epoch  # a copy
            if stopping.should_stop:
                break
    best = state.replace(params=best_params)
    score = evaluate(best, valid_data[:5_000].batches(500))["loss"]
    print(f"stopped after epoch {tick.epoch}; best was epoch {best_epoch}, validation loss {score:.4f}")
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_subplot()
    for name, values in zip(("train", "validation"), zip(*curves, strict=True), strict=True):
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
    axes.axvline(best_epoch, linestyle="--", color="grey", label="best")
    axes.set(xlabel="epoch", ylabel="loss", title="Early stopping")
    axes.legend()
    figure.savefig(arguments.out)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
