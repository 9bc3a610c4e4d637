"""The in-place NNX step made pure: by `fourbeat.functionalize`, and by hand as a flat list of leaves."""

import jax
import jax.numpy as jnp
from flax import nnx

import fourbeat as fb
from benchmarks.peers.nnx_loop import NnxJit, train_step_alone


class Functionalized(NnxJit):
    """`train_step(model, optimizer, batch)` functionalized, jitted, its state donated."""

    def compiled(self):
        """A function of the batch that holds the state."""
        images, labels = self.job.train
        pure = fb.functionalize(train_step_alone, *self.arguments)
        size = self.job.batch_size
        self.state = pure.init({"image": jnp.array(images[:size]), "label": jnp.array(labels[:size])})
        self.pure = pure
        call = jax.jit(pure, donate_argnums=0)

        def step(batch):
            _, self.state = call(self.state, batch)

        return step

    def run(self, amount):
        """Goes on with the state."""
        for batch in self.batches(amount):
            self.step(batch)
        jax.block_until_ready(self.state)

    def logits(self, inputs):
        """Of the model that the state is written back to."""
        self.pure.commit(jax.tree.map(jnp.copy, self.state))
        return super().logits(inputs)


class FlatLeaves(NnxJit):
    """The same step over the flat list of leaves of `nnx.split`, donated: the least that a call can hold."""

    def compiled(self):
        """A function of the batch that holds the leaves."""
        graphdef, state = nnx.split(tuple(self.arguments))
        leaves, treedef = jax.tree.flatten(state)
        self.leaves = [jnp.copy(leaf) for leaf in leaves]

        def pure(leaves, batch):
            model, optimizer = nnx.merge(graphdef, jax.tree.unflatten(treedef, leaves))
            loss = train_step_alone(model, optimizer, batch)
            return jax.tree.leaves(nnx.state((model, optimizer))), loss

        call = jax.jit(pure, donate_argnums=0)
        self.merged = lambda: nnx.merge(graphdef, jax.tree.unflatten(treedef, self.leaves))[0]

        def step(batch):
            self.leaves, _ = call(self.leaves, batch)

        return step

    def run(self, amount):
        """Goes on with the leaves."""
        for batch in self.batches(amount):
            self.step(batch)
        jax.block_until_ready(self.leaves)

    def logits(self, inputs):
        """Of the model that the leaves make."""
        return self.merged()(inputs)
