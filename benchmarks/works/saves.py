"""Saves: how long the loop stands still, what the run pays for it, and what one takes beside Orbax alone."""

from benchmarks.reaching import at_most_ratio, measured, memory_at_most, missing
from benchmarks.work import Reach, Side, Work

FACTORY = "benchmarks.peers.saving:Saving"
NONE, UNDER_WAY = "no saves", "saves, steps under way"
LIMIT_MS = 5.0
ORBAX, CHECKPOINTS = "Orbax, flushed", "fb.Checkpoints"


def holds_up(sides, side, limit_ms):
    """The call itself; the median of all saves."""
    reach = f"{side}: a save holds the loop up for at most {limit_ms:g} ms"
    if not measured(sides, side) or "samples" not in sides[side]:
        return missing(reach)
    milliseconds = [1e3 * sides[side]["samples"][key] for key in ("p50_s", "p95_s")]
    words = "median {:.2f} ms, p95 {:.2f} ms".format(*milliseconds)
    return Reach(reach, words, milliseconds[0] <= limit_ms)


def reaches(sides):
    """The call in the loop as it is."""
    return [holds_up(sides, UNDER_WAY, LIMIT_MS)]


def beside_orbax(name, title, size, amount, limit_ms):
    """A work: one tree, saved by Orbax alone and by `fb.Checkpoints`."""

    def reaches(sides):
        return [
            at_most_ratio(sides, CHECKPOINTS, ORBAX, 1.3, "of Orbax alone"),
            memory_at_most(sides, CHECKPOINTS, ORBAX, 1.1),
            holds_up(sides, CHECKPOINTS, limit_ms),
        ]

    return Work(
        name=name,
        title=title,
        sides={
            ORBAX: Side("benchmarks.peers.saving:Orbax", options=size),
            CHECKPOINTS: Side("benchmarks.peers.saving:Checkpointed", options=size),
        },
        against=ORBAX,
        amount=amount,
        per="save",
        learn=2,
        must={"lost": ("at most", 0)},
        reaches=reaches,
        notes=(
            "Both flush every file to the disk. Orbax alone compresses; fourbeat copies the state first, so "
            "that training may go on, and reads back what it wrote. Single ones are the time of the call.",
        ),
    )


WORKS = [
    Work(
        name="saves",
        title="mnist-cnn, batch 32, a checkpoint every 100 steps: a step",
        sides={
            NONE: Side(FACTORY),
            UNDER_WAY: Side(FACTORY, options={"every": 100}),
            "saves, device at rest": Side(FACTORY, options={"every": 100, "at_rest": True}),
        },
        against=NONE,
        job={"name": "mnist-cnn", "batch_size": 32, "learning_rate": 5e-3, "num_test": 2_000},
        amount=300,
        learn=150,
        must={"loss": ("at most", 0.4), "accuracy": ("at least", 0.88)},
        rounds=5,
        reaches=reaches,
        notes=("A single one is a call that saves. A round ends when its last save is written.",),
    ),
    beside_orbax(
        "save-100-mb", "A save of 100 MB in 10 leaves", {"megabytes": 100, "num_leaves": 10}, 3, LIMIT_MS
    ),
    beside_orbax(
        "save-400-mb", "A save of 400 MB in 10 leaves", {"megabytes": 400, "num_leaves": 10}, 1, LIMIT_MS
    ),
    beside_orbax(
        "save-1000-leaves", "A save of 4 MB in 1,000 leaves", {"megabytes": 4, "num_leaves": 1_000}, 2, 15.0
    ),
]
