"""Plain JAX: `jax.jit` over dicts of arrays with donation, written by hand; the model is the same NNX one.

https://docs.jax.dev/en/latest/notebooks/neural_network_with_tfds_data.html
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.jobs import from_settings
from benchmarks.peers.classifier import Classifier
from benchmarks.peers.nnx_models import MODELS
from benchmarks.peers.optimizer import make_tx


class JaxJit(Classifier):
    """The loop over `(params, opt_state)`; the loss of each step, no metrics."""

    def __init__(self, settings):
        self.job = job = from_settings(settings)
        graphdef, state = nnx.split(MODELS[job.name](rngs=nnx.Rngs(0)))
        tx = make_tx(job)
        params = nnx.to_pure_dict(state)
        self.carry = jax.tree.map(jnp.copy, (params, tx.init(params)))
        self.num_steps = 0
        job.train  # noqa: B018  read before the clock runs

        def forward(params, images):
            return nnx.merge(graphdef, nnx.State(params))(images)

        def loss_fn(params, images, labels):
            logits = forward(params, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        def step(params, opt_state, images, labels):
            loss, grads = jax.value_and_grad(loss_fn)(params, images, labels)
            updates, opt_state = tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, loss

        self.step = jax.jit(step, donate_argnums=(0, 1))
        self.forward = jax.jit(forward)

    def run(self, amount):
        """Goes on with the batches."""
        (images, labels), step, carry = self.job.train, self.step, self.carry
        if self.job.one_batch:
            images, labels = jnp.array(images), jnp.array(labels)
            for _ in range(amount):
                *carry, _ = step(*carry, images, labels)
        else:
            for number in range(self.num_steps, self.num_steps + amount):
                rows = self.job.rows(number)
                *carry, _ = step(*carry, jnp.array(images[rows]), jnp.array(labels[rows]))
            self.num_steps += amount
        self.carry = jax.block_until_ready(carry)

    def logits(self, inputs):
        """Of the parameters as they are."""
        return self.forward(self.carry[0], inputs)
