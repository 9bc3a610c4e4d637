"""A step of almost no work, an MLP with 26 leaves of state: what is left is the price of calling it."""

from benchmarks.reaching import at_least_times_less, at_most_above, overhead_times_less
from benchmarks.work import Side, Work

PEERS = "benchmarks.peers"
RAW, NNX, ALONE = "raw jax.jit over dicts", "Flax nnx.jit", "one lax.scan by hand, 100 steps a call"
JOB = {"name": "mlp", "batch_size": 32, "learning_rate": 5e-3, "one_batch": True}
MUST = {"loss": ("at most", 0.6), "accuracy": ("at least", 0.8)}
ALL_POINTS = {"metrics": False, "job": {"one_batch": False}}
NO_METRICS = {"metrics": False}
SIDES = {
    RAW: Side(f"{PEERS}.jax_loop:JaxJit", "loss"),
    "bare executable of fourbeat's step": Side(
        f"{PEERS}.fourbeat_loop:BareExecutable", "loss, norm", NO_METRICS
    ),
    "fourbeat": Side(f"{PEERS}.fourbeat_loop:OneBatch", "loss, norm", NO_METRICS),
    "fourbeat, only the loss in its logs": Side(
        f"{PEERS}.fourbeat_loop:OneBatch", "loss", {**NO_METRICS, "logs": ("loss",)}
    ),
    "fourbeat, loop and shuffled data too": Side(f"{PEERS}.fourbeat_loop:Fourbeat", "loss, norm", ALL_POINTS),
    "fourbeat, loop and data, 100 steps a call": Side(
        f"{PEERS}.fourbeat_loop:Fourbeat", "loss, norm", {**ALL_POINTS, "steps_per_call": 100}, share=10
    ),
    ALONE: Side(f"{PEERS}.jax_loop:JaxScan", "loss of each step", {"job": {"one_batch": False}}, share=10),
    NNX: Side(f"{PEERS}.nnx_loop:NnxJit", "loss", NO_METRICS, share=0.2),
    "Flax nnx.cached_partial": Side(f"{PEERS}.nnx_loop:NnxCachedPartial", "loss", NO_METRICS, share=0.5),
    "Equinox filter_jit": Side(f"{PEERS}.equinox_loop:FilterJit", "loss", share=0.5),
    "Keras fit": Side(f"{PEERS}.keras_fit:KerasFit", "loss, accuracy", share=0.2),
    "PyTorch eager": Side(f"{PEERS}.torch_loop:Torch", "loss", share=0.2),
    "PyTorch torch.compile": Side(f"{PEERS}.torch_loop:Torch", "loss", {"compiled": True}, share=0.2),
}


def reaches(sides):
    """Above raw jit; and the overhead above the work of a step beside that of `nnx.jit`."""
    return [
        at_most_above(sides, "fourbeat", RAW, 20),
        overhead_times_less(sides, "fourbeat", NNX, ALONE, 15),
        overhead_times_less(sides, "fourbeat, loop and data, 100 steps a call", NNX, ALONE, 100),
    ]


def functionalized(sides):
    """A functionalized call beside the least one and beside `nnx.jit`."""
    return [
        at_most_above(sides, "functionalized step", "flat list of leaves", 20),
        at_least_times_less(sides, "functionalized step", NNX, 10),
    ]


WORKS = [
    Work(
        name="mlp",
        title="MLP 8-16-16-16-10 with AdamW, 26 leaves, batch 32: a step",
        sides=SIDES,
        against=RAW,
        job=JOB,
        amount=2_000,
        learn=1_000,
        must=MUST,
        unit="us",
        scale=1e6,
        reaches=reaches,
        notes=(
            "One batch stays on the device, so the time is that of a call of the step; the two sides with "
            "loop and data draw shuffled batches of 4,096 points.",
        ),
    ),
    Work(
        name="functionalize",
        title="The same MLP: one in-place NNX step, made pure",
        sides={
            "flat list of leaves": Side(f"{PEERS}.functionalized:FlatLeaves", "loss", NO_METRICS),
            "functionalized step": Side(f"{PEERS}.functionalized:Functionalized", "loss", NO_METRICS),
            NNX: Side(f"{PEERS}.nnx_loop:NnxJit", "loss", NO_METRICS, share=0.2),
        },
        against="flat list of leaves",
        job=JOB,
        amount=2_000,
        learn=1_000,
        must=MUST,
        unit="us",
        scale=1e6,
        reaches=functionalized,
        notes=(
            "All three run the same `train_step(model, optimizer, batch)`; the first two donate the state.",
        ),
    ),
]
