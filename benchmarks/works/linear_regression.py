"""1,000 steps of linear regression: a fused loop beside one `lax.scan` written by hand."""

from benchmarks.reaching import at_most_ratio
from benchmarks.work import Side, Work

SCAN, FUSED = "one lax.scan by hand", "fourbeat, 1,000 steps a call"
BARE = "fourbeat, 1,000 steps a call, no logs"
BLOCK = "fourbeat, one block of the same batch"
BARE_BLOCK = "fourbeat, one block of the same batch, no logs"
LOGGED = "the scan, with loss and norm"


def reaches(sides):
    """The fused loop beside the scan, and beside a scan that gives what a step's logs give."""
    return [
        at_most_ratio(sides, BARE, SCAN, 1.2, "of one hand-written lax.scan"),
        at_most_ratio(sides, BARE_BLOCK, SCAN, 1.2, "of one hand-written lax.scan"),
        at_most_ratio(sides, FUSED, SCAN, 1.5, "of one hand-written lax.scan"),
        at_most_ratio(sides, FUSED, LOGGED, 1.5, "of one that gives loss and norm too"),
    ]


WORKS = [
    Work(
        name="linear-regression",
        title="Linear regression: 1,000 steps over 128 points",
        sides={
            SCAN: Side("benchmarks.peers.lines:Scan"),
            LOGGED: Side("benchmarks.peers.lines:Scan", options={"logs": True}),
            FUSED: Side("benchmarks.peers.lines:Fourbeat", options={"steps_per_call": 1_000}),
            BARE: Side("benchmarks.peers.lines:Fourbeat", options={"steps_per_call": 1_000, "logs": ()}),
            BLOCK: Side("benchmarks.peers.lines:FourbeatBlock"),
            BARE_BLOCK: Side("benchmarks.peers.lines:FourbeatBlock", options={"logs": ()}),
            "fourbeat, 1 step a call": Side("benchmarks.peers.lines:Fourbeat", share=0.1),
            "jax.jit, 1 step a call, by hand": Side("benchmarks.peers.lines:Jit", share=0.1),
        },
        against=SCAN,
        settings={"num_steps": 1_000},
        amount=50,
        per="fit",
        learn=1,
        must={"error": ("at most", 1e-3)},
        unit="ms of CPU time",
        rounds=15,
        reaches=reaches,
        notes=(
            "The error is the largest distance of weight and bias from the least-squares line of NumPy.",
            "The scan by hand gives neither the loss nor the norm of the gradient. A compiled loop that "
            "gives both computes them in every turn, although the last turn's alone are seen, and takes "
            "half as long again. fourbeat's step gives both, unless `logs` says otherwise. The sides with a "
            "loop open one for each fit: to check data and marks and to hand over the signals takes 0.1 ms.",
        ),
    )
]
