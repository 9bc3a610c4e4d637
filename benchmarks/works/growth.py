"""How the price of a step grows with the leaves of the state: many small vectors that move to a target."""

import numpy as np

from benchmarks import statistics
from benchmarks.reaching import measured, missing
from benchmarks.work import Reach, Side, Work

LEAVES = (10, 100, 1_000)
KINDS = {"raw jax.jit": "Raw", "fourbeat": "Fourbeat", "Flax nnx.jit": "Nnx", "Equinox filter_jit": "Equinox"}
SHARES = {"raw jax.jit": 1.0, "fourbeat": 1.0, "Flax nnx.jit": 0.1, "Equinox filter_jit": 0.25}
LEARNING_RATE, MOMENTUM = 0.1, 0.5


def slope(sides, kind):
    """Seconds a leaf of each round, between the fewest and the most leaves."""
    few, many = (np.asarray(sides[f"{kind}, {count} leaves"]["seconds"]) for count in (LEAVES[0], LEAVES[-1]))
    return (many - few) / (LEAVES[-1] - LEAVES[0])


def reaches(sides):
    """The slope beside that of raw jit."""
    reach = "fourbeat: slope no worse than raw jit's"
    ends = [f"{kind}, {count} leaves" for kind in ("fourbeat", "raw jax.jit") for count in LEAVES]
    if not measured(sides, *ends):
        return [missing(reach)]
    ours, raw = slope(sides, "fourbeat"), slope(sides, "raw jax.jit")
    ratio = statistics.ratio(ours, raw)
    words = f"{ratio}: {1e6 * np.median(ours):.2f} against {1e6 * np.median(raw):.2f} us a leaf"
    return [Reach(reach, words, ratio.low <= 1)]


WORKS = [
    Work(
        name="growth",
        title="A step of almost no work at 10, 100 and 1,000 leaves",
        sides={
            f"{kind}, {count} leaves": Side(
                f"benchmarks.peers.many_leaves:{maker}",
                options={"num_leaves": count},
                share=SHARES[kind] * (0.25 if count == 1_000 else 1),
            )
            for kind, maker in KINDS.items()
            for count in LEAVES
        },
        against="raw jax.jit, 10 leaves",
        amount=1_000,
        learn=100,
        must={"loss": ("at most", 0.01)},
        unit="us",
        scale=1e6,
        rounds=7,
        reaches=reaches,
        notes=(
            "Half of the leaves are parameters of 8 floats, half their momentum. The reach is met where the "
            "interval of the ratio of slopes holds 1 or lies below.",
        ),
    )
]
