"""The price of safety and watching: guard, average, metrics, logging, progress, each on by itself."""

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
    """Floating-point operations and bytes by XLA's own cost analysis of the compiled step."""
    found = []
    for name in OPTIONS:
        reach = f"{name}: at most {LIMIT:g} x by HLO cost"
        if not measured(sides, name, PLAIN):
            found.append(missing(reach))
            continue
        facts, plain = sides[name]["facts"], sides[PLAIN]["facts"]
        flops, size = (facts[key] / plain[key] for key in ("gigaflops", "gigabytes"))
        words = f"{flops:.4f} x the operations, {size:.4f} x the bytes"
        found.append(Reach(reach, words, max(flops, size) <= LIMIT))
    return found


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
        reaches=reaches,
        notes=(
            "Every step is waited for, so that p99 is that of steps, not of dispatch. Operations and bytes "
            "are from `compiled.cost_analysis()`.",
        ),
    )
]
