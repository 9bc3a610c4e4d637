"""The main job: a step of mnist-cnn at batch 32, of fourbeat and of everything a user would pick instead."""

from benchmarks.reaching import all_faster, at_most_ratio, memory_at_most
from benchmarks.work import Side, Work

PEERS = "benchmarks.peers"
BARE = "bare executable, one batch"
NNX = "Flax nnx.jit loop"
# the same with XLA's option for Eigen's convolutions
EIGEN, BARE_EIGEN, BY_HAND_EIGEN = (
    f"{side}, Eigen's convolutions" for side in ("fourbeat", "bare executable", "jax.jit loop over dicts")
)
# no peers: fourbeat itself, its limits, and a loop by hand with the option that the recipe found
OURS = ("fourbeat", BARE, EIGEN, BARE_EIGEN, BY_HAND_EIGEN)
SIDES = {
    BARE: Side(f"{PEERS}.fourbeat_loop:BareExecutable", "fourbeat's step itself; norm, loss, accuracy"),
    "fourbeat": Side(f"{PEERS}.fourbeat_loop:Fourbeat", "norm, loss, accuracy"),
    BARE_EIGEN: Side(
        f"{PEERS}.fourbeat_loop:BareExecutable",
        "fourbeat's step itself; norm, loss, accuracy",
        {"eigen": True},
    ),
    EIGEN: Side(f"{PEERS}.fourbeat_loop:Fourbeat", "norm, loss, accuracy", {"eigen": True}),
    BY_HAND_EIGEN: Side(f"{PEERS}.jax_loop:JaxJit", "loss of each step", {"eigen": True}),
    NNX: Side(f"{PEERS}.nnx_loop:NnxJit", "loss, accuracy"),
    "Flax nnx.cached_partial loop": Side(f"{PEERS}.nnx_loop:NnxCachedPartial", "loss, accuracy"),
    "jax.jit loop over dicts": Side(f"{PEERS}.jax_loop:JaxJit", "loss of each step"),
    "Equinox filter_jit loop": Side(f"{PEERS}.equinox_loop:FilterJit", "loss of each step"),
    "Keras fit": Side(f"{PEERS}.keras_fit:KerasFit", "loss, accuracy"),
    "Keras fit, best steps_per_execution": Side(
        f"{PEERS}.keras_fit:KerasFit", "loss, accuracy", {"steps_per_execution": "best"}
    ),
    "PyTorch eager": Side(f"{PEERS}.torch_loop:Torch", "loss of each step"),
    "PyTorch eager, batches by index": Side(
        f"{PEERS}.torch_loop:Torch", "loss of each step", {"data_loader": False}
    ),
    "PyTorch torch.compile": Side(f"{PEERS}.torch_loop:Torch", "loss of each step", {"compiled": True}),
    "PyTorch Lightning": Side(f"{PEERS}.lightning_trainer:Lightning", "loss of each step"),
}


def reaches(sides):
    """The limit, the peers, the memory."""
    return [
        at_most_ratio(sides, "fourbeat", BARE, 1.05, "of the bare executable"),
        at_most_ratio(sides, EIGEN, BARE_EIGEN, 1.05, "of the bare executable"),
        all_faster(sides, "fourbeat", besides=OURS),
        all_faster(sides, EIGEN, besides=OURS),
        memory_at_most(sides, "fourbeat", NNX, 1.1),
    ]


WORKS = [
    Work(
        name="mnist-cnn",
        title="mnist-cnn, batch 32: a step",
        sides=SIDES,
        against=BARE,
        job={"name": "mnist-cnn", "batch_size": 32, "learning_rate": 5e-3},
        amount=150,
        learn=300,
        must={"loss": ("at most", 0.25), "accuracy": ("at least", 0.93)},
        reaches=reaches,
        notes=(
            "The side fourbeat is the README's first screen. The recipe mnist-cnn compiles with Eigen's "
            "convolutions (`fourbeat.compiling.eigen_convolutions`), as any loop on `jax.jit` can.",
            "All start from the same values, see the same batches in the same order, in float32, with AdamW.",
            "Keras gets its examples in order before its clock starts. The clock of Lightning runs from the "
            "first batch to the last step of a fit.",
        ),
    )
]
