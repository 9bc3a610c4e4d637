"""A model of many layers, split and started: by hand and by fourbeat."""

import jax
import optax
from flax import nnx

WIDTH = 4


class Starting:
    """What the sides share.

    Args:
      settings: unused.
      num_layers: linear layers, of two leaves each.
    """

    def __init__(self, settings, *, num_layers):
        rngs = nnx.Rngs(0)
        self.model = nnx.List([nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(num_layers)])
        self.tx = optax.adamw(1e-3)
        self.facts = {}

    def start(self):
        """What is done once."""
        raise NotImplementedError

    def run(self, amount):
        """So many times."""
        for _ in range(amount):
            self.last = jax.block_until_ready(self.start())

    def scores(self):
        """How many leaves there are."""
        return {"leaves": float(len(jax.tree.leaves(nnx.split(self.model, nnx.Param, ...)[1])))}


class SplitByHand(Starting):
    """`nnx.split`."""

    def start(self):
        """The parameters."""
        return nnx.split(self.model, nnx.Param, ...)[1]


class InitByHand(Starting):
    """`nnx.split` and the optimizer's init."""

    def start(self):
        """Parameters and optimizer state."""
        params = nnx.split(self.model, nnx.Param, ...)[1]
        return params, self.tx.init(params)


class Split(Starting):
    """`fb.split`."""

    def start(self):
        """The parameters."""
        import fourbeat as fb

        return fb.split(self.model)[1]


class Init(Starting):
    """`beats.init`, of beats that are kept."""

    def __init__(self, settings, *, num_layers):
        import fourbeat as fb

        super().__init__(settings, num_layers=num_layers)
        self.beats = fb.four_beats(lambda model, batch: batch["x"], self.tx)

    def start(self):
        """The state."""
        return self.beats.init(self.model)
