"""Metrics of a thousand classes, beside the step that they belong to."""

from benchmarks.reaching import at_most_ratio
from benchmarks.work import Side, Work

NUM_CLASSES, NUM_FEATURES, BATCH_SIZE, LEARNING_RATE = 1_000, 256, 256, 1.0
STEP = "fourbeat"
CONFUSION, ACCURACY = "fourbeat, ConfusionMatrix", "fourbeat, Accuracy"
BY_HAND = "jax.jit by hand"
PRODUCT, ARGMAX = f"{BY_HAND}, a one-hot product", f"{BY_HAND}, argmax"
PEERS = "benchmarks.peers.many_classes"


def reaches(sides):
    """The metrics beside the step alone, and accuracy beside `argmax` by hand."""
    return [
        at_most_ratio(sides, CONFUSION, STEP, 1.05, "of the step without it"),
        at_most_ratio(sides, ACCURACY, ARGMAX, 1.0, "of the step with argmax by hand"),
    ]


WORKS = [
    Work(
        name="many-classes",
        title="A linear model of 1,000 classes, batch 256, with a metric of its classes: a step",
        sides={
            BY_HAND: Side(f"{PEERS}:ByHand"),
            PRODUCT: Side(f"{PEERS}:ByHand", options={"metric": "one-hot product"}),
            ARGMAX: Side(f"{PEERS}:ByHand", options={"metric": "argmax"}),
            STEP: Side(f"{PEERS}:Fourbeat"),
            CONFUSION: Side(f"{PEERS}:Fourbeat", options={"metric": "confusion matrix"}),
            ACCURACY: Side(f"{PEERS}:Fourbeat", options={"metric": "accuracy"}),
        },
        against=STEP,
        amount=50,
        learn=50,
        must={"loss": ("at most", 3)},
        rounds=9,
        reaches=reaches,
        notes=("The matrix of counts holds a million numbers; a step adds to at most 256 of them.",),
    )
]
