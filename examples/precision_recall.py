"""Precision and recall of each class, in a table and a bar chart.

python examples/precision_recall.py --out precision_recall.png
"""

import argparse

import numpy as np
import optax
from matplotlib.figure import Figure
from mnist_mlp import init, loss_fn

import fourbeat as fb


def main() -> None:
    """Trains, evaluates on the test set, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", default="precision_recall.png")
    arguments = parser.parse_args()
    train_data, test_data = fb.data.mnist()
    beats = fb.four_beats(loss_fn, optax.adam(2e-3))
    state, step = beats.init(init()), fb.compile(beats.train_step)
    batches = train_data.batches(64, shuffle=True, seed=0, remainder="drop")
    for tick in fb.loop(batches, until=fb.at(steps=arguments.steps)):
        state, _ = step(state, tick.batch)
    metrics = fb.metrics.Collection(
        accuracy=fb.metrics.Accuracy(),
        precision=fb.metrics.Precision(num_classes=10, average=None),
        recall=fb.metrics.Recall(num_classes=10, average=None),
    )
    scores = fb.evaluator(beats, metrics)(state, test_data.batches(500))
    print("class  precision  recall")
    for label, (precision, recall) in enumerate(zip(scores["precision"], scores["recall"], strict=True)):
        print(f"{label:5d}  {precision:9.3f}  {recall:6.3f}")
    print(f"accuracy {scores['accuracy']:.4f}")
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_subplot()
    axes.bar(np.arange(10) - 0.2, scores["precision"], width=0.4, label="precision")
    axes.bar(np.arange(10) + 0.2, scores["recall"], width=0.4, label="recall")
    axes.set(xlabel="class", ylabel="share", xticks=range(10), ylim=(0, 1.2), title="Precision and recall")
    axes.legend(loc="upper center", ncols=2)
    figure.savefig(arguments.out)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
