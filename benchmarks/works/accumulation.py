"""Accumulation: the same total batch in 1, 2, 4 and 8 microbatches."""

from benchmarks.reaching import at_most_ratio
from benchmarks.work import Side, Work

MICROBATCHES = (1, 2, 4, 8)
WHOLE = "in one"


def name_of(count):
    """Of a side."""
    return WHOLE if count == 1 else f"in {count} microbatches"


def reaches(sides):
    """Each count beside the whole batch."""
    return [
        at_most_ratio(sides, name_of(count), WHOLE, 1.1, "of the same batch in one")
        for count in MICROBATCHES[1:]
    ]


def sides_of(factory):
    """One side for each count."""
    return {name_of(count): Side(factory, options={"accumulate": count}) for count in MICROBATCHES}


WORKS = [
    Work(
        name="accumulate-cnn",
        title="mnist-cnn, batch 256, accumulated: a step",
        sides=sides_of("benchmarks.peers.fourbeat_loop:Fourbeat"),
        against=WHOLE,
        job={"name": "mnist-cnn", "batch_size": 256, "learning_rate": 5e-3, "num_test": 2_000},
        amount=8,
        learn=50,
        must={"loss": ("at most", 0.3), "accuracy": ("at least", 0.9)},
        reaches=reaches,
    ),
    Work(
        name="accumulate-gpt",
        title="char-gpt, 16 windows of 128 characters, accumulated: a step",
        sides=sides_of("benchmarks.peers.gpt:FourbeatGPT"),
        against=WHOLE,
        settings={"gpt": {"batch_size": 16, "steps": 400}},
        amount=8,
        learn=100,
        must={"loss": ("at most", 3.2)},
        reaches=reaches,
    ),
]
