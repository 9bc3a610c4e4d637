"""Small steps fed from the host, and a small model judged, each beside the loop that one writes by hand."""

from benchmarks.reaching import at_most_ratio
from benchmarks.work import Side, Work

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
NOTES = {
    "list": (
        "The loop copies each array, so that a later write into the list is not seen by a step that still "
        "runs. By hand, `step(w, {name: np.array(column) for name, column in batch.items()})`, that copy "
        "alone takes a fifth to a quarter of the step's time. A copy into aligned memory, which JAX need not "
        "copy again, takes as long.",
    ),
    "predictor-host": (
        "fourbeat gathers the labels too, and looks which examples are padding. The loop by hand names the "
        "one column that the model reads.",
    ),
}


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
        unit="us of CPU time",
        scale=1e6,
        rounds=21,
        reaches=lambda sides: [at_most_ratio(sides, OURS, BY_HAND, limit, BY_HAND)],
        notes=("CPU time of each side's own process.", *NOTES.get(name, ())),
    )


WORKS = [work_of(name) for name in ROWS]
