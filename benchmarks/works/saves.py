"""A save every 100 steps: how long the loop stands still, and what the run pays for it."""

from benchmarks.reaching import measured, missing
from benchmarks.work import Reach, Side, Work

FACTORY = "benchmarks.peers.saving:Saving"
NONE, UNDER_WAY = "no saves", "saves, steps under way"
LIMIT_MS = 5.0


def reaches(sides):
    """The call itself, in the loop as it is; the median of all saves."""
    reach = f"a save holds the loop up for at most {LIMIT_MS:g} ms"
    if not measured(sides, UNDER_WAY) or "samples" not in sides[UNDER_WAY]:
        return [missing(reach)]
    samples = sides[UNDER_WAY]["samples"]
    milliseconds = [1e3 * samples[key] for key in ("p50_s", "p95_s")]
    words = "median {:.2f} ms, p95 {:.2f} ms".format(*milliseconds)
    return [Reach(reach, words, milliseconds[0] <= LIMIT_MS)]


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
        notes=("Single ones are saves: the time of the call. A round ends when its last save is written.",),
    )
]
