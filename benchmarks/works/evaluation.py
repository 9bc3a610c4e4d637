"""Evaluation of 10,000 images whose last batch is short."""

from benchmarks.reaching import at_most_ratio
from benchmarks.work import Side, Work

PEERS = "benchmarks.peers.evaluation"
BARE, OURS = "bare executable, one batch", "fourbeat evaluator"
SIDES = {
    BARE: Side(f"{PEERS}:BareEvaluation"),
    OURS: Side(f"{PEERS}:FourbeatEvaluator"),
    "Flax nnx.jit eval_step": Side(f"{PEERS}:NnxEvaluation"),
    "Keras evaluate": Side(f"{PEERS}:keras_evaluation"),
    "PyTorch eager": Side(f"{PEERS}:torch_evaluation"),
}


def reaches(sides):
    """The limit."""
    return [at_most_ratio(sides, OURS, BARE, 1.05, "of the bare executable")]


WORKS = [
    Work(
        name="evaluation",
        title="Evaluation of 10,000 MNIST images in batches of 256, the last of 16",
        sides=SIDES,
        against=BARE,
        job={"name": "mnist-cnn", "batch_size": 32, "learning_rate": 5e-3},
        settings={"eval_batch_size": 256},
        per="evaluation",
        learn=100,
        must={"accuracy": ("at least", 0.85), "off": ("at most", 0.02)},
        reaches=reaches,
        notes=(
            "The bare executable runs 40 full batches, the last with its padding, as fourbeat does. All of "
            "them are one batch of floats, while fourbeat gathers each from the bytes of the data. Each "
            "side's own loss and accuracy are held against those counted in NumPy; the Flax tutorial "
            "averages batch means: its short batch weighs too much.",
        ),
    )
]
