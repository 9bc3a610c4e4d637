"""The price of safety and watching: guard, average, metrics, logging, progress, each on by itself."""

from benchmarks.counted_steps import megainstructions
from benchmarks.reaching import measured, missing
from benchmarks.work import Reach, Side, Work

FACTORY = "benchmarks.peers.watched:Watched"
PLAIN = "nothing on"
OPTIONS = {
    "guard": {"guard": True},
    "average (ema)": {"ema": 0.999},
    "metrics": {"metrics": True},
    "logging": {"logging": True},
    "progress": {"progress": True},
}
LIMIT = 1.02


def reaches(sides):
    """Operations and bytes by XLA's own cost analysis of the compiled step, and instructions run."""
    return [_reach(sides, name) for name in OPTIONS]


def _reach(sides, name):
    reach = f"{name}: at most {LIMIT:g} x by HLO cost and by instructions"
    if not measured(sides, name, PLAIN):
        return missing(reach)
    facts, plain = sides[name]["facts"], sides[PLAIN]["facts"]
    flops, size, count = (
        facts[key] / plain[key] if key in facts and key in plain else None
        for key in ("gigaflops", "gigabytes", "megainstructions")
    )
    words = f"{flops:.4f} x the operations, {size:.4f} x the bytes"
    if count is None:
        return missing(reach, f"{words}; instructions not counted")
    return Reach(reach, f"{words}, {count:.4f} x the instructions", max(flops, size, count) <= LIMIT)


WORKS = [
    Work(
        name="safety",
        title="mnist-cnn, batch 32, with one thing more: a step",
        sides={
            PLAIN: Side(FACTORY),
            **{name: Side(FACTORY, options=options) for name, options in OPTIONS.items()},
            "all of them": Side(FACTORY, options={k: v for o in OPTIONS.values() for k, v in o.items()}),
        },
        against=PLAIN,
        job={"name": "mnist-cnn", "batch_size": 32, "learning_rate": 5e-3, "num_test": 2_000},
        amount=150,
        learn=150,
        must={"loss": ("at most", 0.4), "accuracy": ("at least", 0.88)},
        rounds=7,
        counted=megainstructions,
        reaches=reaches,
        notes=(
            "Each step is waited for, so p99 is the time of a step, not of its dispatch. Operations and "
            "bytes are from `compiled.cost_analysis()`. An average cannot keep within the limit of bytes: "
            "it reads and writes one more copy of the parameters (5 %). Nor can a guard, which reads old "
            "and new parameters for the norm of the update and copies those that it chooses. It holds both "
            "states until that norm is known: 1.35 x the memory by `compiled.memory_analysis()`, and 1.63 x "
            "with an average, whose copy alone is 1.14 x.",
            "Instructions are those that the process runs in a step, kernels and Python in all its threads, "
            "on one core, counted by valgrind (`python -m benchmarks.step_instructions`): half of what a run "
            "of 3 steps has more than a run of 1, and a hundredth of what a line of the log adds. valgrind "
            "has no AVX-512: the kernels are those for AVX2, and memory is copied by loops over vectors. It "
            "makes a step take half a minute, so that the progress line, drawn 4 times a second, counts for "
            "more than it should. Two counts agree to 0.2 %.",
        ),
    )
]
