"""What a person waits for: the import, and the first finished step of a new process."""

from benchmarks.reaching import at_most_ratio, measured, missing
from benchmarks.work import Reach, Side, Work

PEERS, NEW = "benchmarks.peers", "benchmarks.peers.new_process"
IMPORTS = "import jax, flax, optax"
COLD, WARM = "fourbeat, cold cache", "fourbeat, warm cache"
BY_HAND_WARM = "jax.jit loop over dicts, warm"


def first_step(factory, warm=False, **options):
    """A side that starts a process for one step."""
    return Side(
        f"{NEW}:FirstStep", options={"factory": f"{PEERS}.{factory}", "options": options, "warm": warm}
    )


def within(sides, side, limit_s):
    """Whether the median is within so many seconds."""
    reach = f"{side}: first step within {limit_s:g} s"
    if not measured(sides, side):
        return missing(reach)
    seconds = sides[side]["median_s"]
    return Reach(reach, f"{seconds:.2f} s", seconds <= limit_s)


def reaches(sides):
    """Cold and warm, and warm beside a loop by hand."""
    beside = at_most_ratio(sides, WARM, BY_HAND_WARM, 1.1, "of a jax.jit loop by hand, warm")
    return [within(sides, COLD, 6), within(sides, WARM, 3), beside]


WORKS = [
    Work(
        name="waiting",
        title="From the start of a process to the end of its first step of mnist-cnn",
        sides={
            IMPORTS: Side(f"{NEW}:Import", options={"names": "jax, flax, optax"}),
            "import fourbeat": Side(f"{NEW}:Import", options={"names": "fourbeat"}),
            COLD: first_step("fourbeat_loop:Fourbeat"),
            WARM: first_step("fourbeat_loop:Fourbeat", warm=True),
            "Flax nnx.jit loop, cold": first_step("nnx_loop:NnxJit"),
            "Flax nnx.jit loop, warm": first_step("nnx_loop:NnxJit", warm=True),
            "jax.jit loop over dicts, cold": first_step("jax_loop:JaxJit"),
            BY_HAND_WARM: first_step("jax_loop:JaxJit", warm=True),
            "Equinox filter_jit loop, cold": first_step("equinox_loop:FilterJit"),
            "Keras fit, cold": first_step("keras_fit:KerasFit"),
            "PyTorch eager": first_step("torch_loop:Torch"),
            "PyTorch torch.compile, cold": first_step("torch_loop:Torch", compiled=True),
            "PyTorch torch.compile, warm": first_step("torch_loop:Torch", warm=True, compiled=True),
            "PyTorch Lightning": first_step("lightning_trainer:Lightning"),
        },
        against=IMPORTS,
        job={"name": "mnist-cnn", "batch_size": 32, "learning_rate": 5e-3, "num_test": 500},
        per="start",
        learn=1,
        must={"loss": ("at most", 4)},
        unit="s",
        scale=1.0,
        rounds=2,
        warmup=0,
        reaches=reaches,
        notes=("Reading the data is counted. A warm cache is one that an earlier process has written.",),
    )
]
