"""Small steps fed from the host, and a small model judged, each beside the loop that one writes by hand."""

from benchmarks.pairs import at_most_times, beside
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
MORE = {"list": {"by hand, with a copy of each array": "list_copied_by_hand"}}
NOTES = {
    "list": (
        "The loop copies each array, so that a later write into the list is not seen by a step that still "
        "runs: `step(w, {name: np.array(column) for name, column in batch.items()})` by hand. The rest is "
        "the loop's own work, and JAX's second copy of memory that is not aligned to 64 bytes.",
    ),
    **dict.fromkeys(
        ("evaluator-host", "predictor-host"),
        ("fourbeat runs the ten batches of a MiB in one call, which gathers and loops over them.",),
    ),
}


def work_of(name):
    """The work of one row."""
    title, kind, ours, by_hand, limit = ROWS[name]
    is_step, of_hand = kind == "Feeding", Side(f"{PEERS}:{kind}", options={"way": by_hand})
    return Work(
        name=f"feeding-{name}",
        title=f"Feeding: {title}, 32 x 784 floats, softmax regression",
        sides={
            OURS: beside(Side(f"{PEERS}:{kind}", options={"way": ours}), of_hand),
            BY_HAND: of_hand,
            **{
                more: beside(Side(f"{PEERS}:{kind}", options={"way": way}), of_hand)
                for more, way in MORE.get(name, {}).items()
            },
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
        reaches=lambda sides: [at_most_times(sides, OURS, limit, BY_HAND)],
        notes=("CPU time; the reach is judged by pairs in one process.", *NOTES.get(name, ())),
    )


WORKS = [work_of(name) for name in ROWS]
