"""Plain JAX: `jax.jit` over dicts of arrays with donation, written by hand; the model is the same NNX one.

https://docs.jax.dev/en/latest/notebooks/neural_network_with_tfds_data.html
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from benchmarks.jobs import from_settings
from benchmarks.peers.classifier import Classifier
from benchmarks.peers.nnx_models import MODELS
from benchmarks.peers.optimizer import make_tx
from fourbeat.compiling import eigen_convolutions


class JaxJit(Classifier):
    """The loop over `(params, opt_state)`; the loss of each step, no metrics.

    Args:
      settings: with the job.
      job: changes to the job.
      eigen: whether to compile with Eigen's convolutions.
      norm: whether a step gives the gradient's norm and the number of its examples beside the loss.
    """

    def __init__(self, settings, *, job=None, eigen=False, norm=False):
        self.job = job = from_settings(settings, **(job or {}))
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
            seen = (loss, optax.tree.norm(grads), jnp.float32(len(images))) if norm else loss
            return optax.apply_updates(params, updates), opt_state, seen

        self.plain_step = step
        compiler_options = eigen_convolutions() if eigen else None
        self.step = jax.jit(step, donate_argnums=(0, 1), compiler_options=compiler_options)
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
                examples = self.job.examples(number)
                *carry, _ = step(*carry, jnp.array(images[examples]), jnp.array(labels[examples]))
            self.num_steps += amount
        self.carry = jax.block_until_ready(carry)

    def logits(self, inputs):
        """Of the parameters as they are."""
        return self.forward(self.carry[0], inputs)


class JaxScan(JaxJit):
    """The same steps in one `lax.scan` a call, from data on the device: the work of a step alone."""

    NUM_STEPS = 100  # a call

    def run(self, amount):
        """Goes on with the batches, `NUM_STEPS` a call."""
        if not hasattr(self, "steps"):
            data = tuple(map(jnp.array, self.job.train))

            def steps(carry, examples):
                def one(carry, index):
                    *carry, loss = self.plain_step(*carry, *(column[index] for column in data))
                    return tuple(carry), loss

                return lax.scan(one, carry, examples)

            self.steps = jax.jit(steps, donate_argnums=0)
        carry = tuple(self.carry)
        for start in range(self.num_steps, self.num_steps + amount, self.NUM_STEPS):
            examples = np.stack(
                [self.job.examples(number) for number in range(start, start + self.NUM_STEPS)]
            )
            carry, _ = self.steps(carry, examples)
            self.num_steps = start + self.NUM_STEPS
        self.carry = jax.block_until_ready(carry)
