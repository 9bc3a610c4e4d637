"""One step of almost no work a call, beside raw `jax.jit` over dicts: 26, 100 and 400 leaves of state."""

from benchmarks.pairs import at_most_times, beside
from benchmarks.work import Side, Work
from benchmarks.works import mlp

PEERS = "benchmarks.peers.small_steps"
RAW, OURS, LOSS = "raw jax.jit over dicts", "fourbeat", "fourbeat, only the loss in its logs"
LOGGED = "the raw step, with norm and weight"
NOTES = (
    "CPU time; the reaches are judged by pairs in one process. The raw step gives the loss alone. The norm "
    "of a small gradient takes a tenth of the step, by hand too. JAX takes the dicts of a call's arguments "
    "apart and puts those of its results together, which by hand takes a quarter of the time. fourbeat hands "
    "on the leaves, and a state makes its fields when one is read.",
)


def sides_of(kind, raw_options, options):
    """The raw step, fourbeat's, and fourbeat's that logs the loss alone."""
    raw = Side(f"{PEERS}:Raw{kind}", "loss", raw_options)
    logged = Side(f"{PEERS}:Raw{kind}", "loss, norm, weight", {**raw_options, "norm": True})
    ours = Side(f"{PEERS}:Fourbeat{kind}", "loss, norm, weight", options)
    loss = Side(f"{PEERS}:Fourbeat{kind}", "loss", {**options, "logs": ("loss",)})
    return {RAW: raw, LOGGED: beside(logged, raw), OURS: beside(ours, raw), LOSS: beside(loss, raw)}


def reaches_of(limit, limit_of_loss):
    """Both of fourbeat's steps beside the raw one."""
    return lambda sides: [
        at_most_times(sides, OURS, limit, "raw jax.jit"),
        at_most_times(sides, LOSS, limit_of_loss, "raw jax.jit"),
    ]


ON_MLP = [
    Work(
        name=f"small-steps-26-leaves-batch-{batch_size}",
        title=f"MLP 8-16-16-16-10 with AdamW, 26 leaves, batch {batch_size}, one step a call",
        sides=sides_of("Mlp", {}, mlp.NO_METRICS),
        against=RAW,
        job={**mlp.JOB, "batch_size": batch_size},
        amount=1_000,
        learn=1_000,
        must=mlp.MUST,
        unit="us of CPU time",
        scale=1e6,
        rounds=15,
        reaches=reaches_of(1.12, 1.05),
        notes=NOTES,
    )
    for batch_size in (1, 32)
]
ON_VECTORS = [
    Work(
        name=f"small-steps-{num_leaves}-leaves",
        title=f"{num_leaves // 2} vectors, SGD with momentum, {num_leaves} leaves, one step a call",
        sides=sides_of("Leaves", {"num_leaves": num_leaves}, {"num_leaves": num_leaves}),
        against=RAW,
        amount=40_000 // num_leaves,
        learn=100,
        must={"loss": ("at most", 0.01)},
        unit="us of CPU time",
        scale=1e6,
        rounds=15,
        reaches=reaches_of(1.05, 1.05),
        notes=NOTES,
    )
    for num_leaves in (100, 400)
]
WORKS = [*ON_MLP, *ON_VECTORS]
