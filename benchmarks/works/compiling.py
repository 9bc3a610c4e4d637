"""How long a training step takes to compile, beside one by hand that does the same."""

from benchmarks.reaching import at_most_ratio
from benchmarks.work import Side, Work

PEERS = "benchmarks.peers.compiling"
KINDS = {
    "loss alone": ({}, {"logs": ("loss",)}, 1.1),
    "loss and norm": ({"norm": True}, {}, 1.1),
    "guard": ({"norm": True, "guard": True}, {"guard": True}, 1.25),
    "average (ema)": ({"norm": True, "ema": True}, {"ema": 0.999}, 1.25),
    "bfloat16": ({"norm": True, "sizes": {"dtype": "bfloat16"}}, {"precision": "bfloat16"}, 1.25),
    "4 microbatches": ({"norm": True, "accumulate": 4}, {"accumulate": 4}, 1.25),
    "GPT, loss alone": ({"model": "gpt"}, {"model": "gpt", "logs": ("loss",)}, 1.1),
    "GPT, loss and norm": ({"model": "gpt", "norm": True}, {"model": "gpt"}, 1.1),
}


def by_hand(kind):
    """The name of a side."""
    return f"by hand: {kind}"


def by_fourbeat(kind):
    """The name of a side."""
    return f"fourbeat: {kind}"


def reaches(sides):
    """Each kind beside the same by hand."""
    return [
        at_most_ratio(sides, by_fourbeat(kind), by_hand(kind), limit, "of the same by hand")
        for kind, (_, _, limit) in KINDS.items()
    ]


WORKS = [
    Work(
        name="compiling",
        title="mnist-cnn at batch 32, and a GPT of 12 layers: a new step, traced and compiled",
        sides={
            name(kind): Side(f"{PEERS}:{maker}", options=options[i])
            for kind, options in KINDS.items()
            for i, (name, maker) in enumerate([(by_hand, "ByHand"), (by_fourbeat, "Fourbeat")])
        },
        against=by_hand("loss alone"),
        per="program",
        unit="s",
        scale=1.0,
        rounds=7,
        reaches=reaches,
        notes=(
            "The time is that of all cores together: XLA compiles in threads. A step gives the loss and the "
            "norm of the gradients by default; `logs=('loss',)` leaves the norm out. By hand a guard takes "
            "the old state where the loss or a norm is not finite, and counts; fourbeat's also finds the "
            "array and the examples at fault.",
        ),
    )
]
