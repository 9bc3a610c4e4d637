"""What a training starts with: a model taken apart, and its state made, again and again."""

from benchmarks.reaching import at_most_ratio
from benchmarks.work import Side, Work

PEERS = "benchmarks.peers.starting"
INIT_BY_HAND, INIT = "nnx.split and tx.init by hand", "fourbeat, beats.init"
SPLIT_BY_HAND, SPLIT = "nnx.split by hand", "fourbeat, fb.split"


def reaches(sides):
    """A second init and a split, each beside its own by hand."""
    return [
        at_most_ratio(sides, INIT, INIT_BY_HAND, 1.3, "of both by hand"),
        at_most_ratio(sides, SPLIT, SPLIT_BY_HAND, 2, "of nnx.split"),
    ]


def starting(name, num_layers, amount):
    """The work for a model of so many layers, of two leaves each."""
    options = {"num_layers": num_layers}
    return Work(
        name=name,
        title=f"A model of {2 * num_layers:,} leaves, taken apart and started again",
        sides={
            INIT_BY_HAND: Side(f"{PEERS}:InitByHand", options=options),
            INIT: Side(f"{PEERS}:Init", options=options),
            SPLIT_BY_HAND: Side(f"{PEERS}:SplitByHand", options=options),
            SPLIT: Side(f"{PEERS}:Split", options=options),
        },
        against=INIT_BY_HAND,
        amount=amount,
        per="start",
        rounds=9,
        reaches=reaches,
        notes=("The first init, which compiles, is not counted.",),
    )


WORKS = [starting("starting-small", 4, 50), starting("starting-large", 500, 3)]
