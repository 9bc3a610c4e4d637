"""Small steps fed from the host, and a small model judged, each beside the loop that one writes by hand."""

from benchmarks.reaching import measured, missing
from benchmarks.work import Reach, Side, Work

PEERS = "benchmarks.peers.feeding"
# by name: the title, the class, fourbeat's way, that by hand, and what to reach
ROWS = {
    "batches": ("batches gathered on the host", "Feeding", "gathered", "gathered_by_hand", 1.15),
    "generator": ("a generator of dicts", "Feeding", "generated", "gathered_by_hand", 1.3),
    "blocks": ("a generator of dicts, 16 steps a call", "Feeding", "blocks", "blocks_by_hand", 1.1),
    "list": ("a list of dicts", "Feeding", "list_of_dicts", "list_by_hand", 1.2),
    "evaluator-resident": (
        "an evaluation of batches on the device",
        "Judging",
        "scored_on_device",
        "scored_on_device_by_hand",
        1.1,
    ),
    "evaluator-host": (
        "an evaluation of batches on the host",
        "Judging",
        "scored_from_host",
        "scored_from_host_by_hand",
        1.2,
    ),
    "predictor-host": (
        "a prediction of batches on the host",
        "Judging",
        "predicted",
        "predicted_by_hand",
        1.2,
    ),
}
OURS, BY_HAND = "fourbeat", "by hand"


def work_of(name):
    """The work of one row."""
    title, kind, ours, by_hand, limit = ROWS[name]
    is_step = kind == "Feeding"
    return Work(
        name=f"feeding-{name}",
        title=f"Feeding: {title}, 32 x 784 floats, softmax regression",
        sides={
            OURS: Side(f"{PEERS}:{kind}", options={"way": ours}),
            BY_HAND: Side(f"{PEERS}:{kind}", options={"way": by_hand}),
        },
        against=BY_HAND,
        settings={"num_batches": 157},
        amount=480 if is_step else 4,
        per="step" if is_step else "evaluation",
        learn=1,
        must={"off": ("at most", 1e-5)},
        unit="us",
        scale=1e6,
        reaches=lambda sides: [costs_at_most(sides, limit)],
        notes=("CPU time is that of the side's own process, the least of the rounds.",),
    )


def costs_at_most(sides, limit):
    """Whether a step, or an evaluation, takes at most so many times the CPU time of that by hand."""
    reach = f"{OURS}: CPU time at most {limit:g} x that {BY_HAND}"
    if not measured(sides, OURS, BY_HAND):
        return missing(reach)
    ratio = sides[OURS]["facts"]["CPU us"] / sides[BY_HAND]["facts"]["CPU us"]
    return Reach(reach, f"{ratio:.2f}", ratio <= limit)


WORKS = [work_of(name) for name in ROWS]
