"""Flax NNX as its MNIST tutorial writes it: `nnx.jit`, `nnx.Optimizer`, `nnx.MultiMetric`.

https://flax.readthedocs.io/en/latest/mnist_tutorial.html
"""

from functools import partial

import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.jobs import from_settings
from benchmarks.peers.classifier import Classifier
from benchmarks.peers.nnx_models import MODELS
from benchmarks.peers.optimizer import make_tx


def loss_fn(model, batch):
    """The mean cross-entropy, and the logits."""
    logits = model(batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
    return loss, logits


def train_step(model, optimizer, metrics, batch):
    """Train for a single step."""
    grad_fn = nnx.value_and_grad(loss_fn, has_aux=True)
    (loss, logits), grads = grad_fn(model, batch)
    metrics.update(loss=loss, logits=logits, labels=batch["label"])
    optimizer.update(model, grads)


def train_step_alone(model, optimizer, batch):
    """The same without metrics; gives the loss."""
    (loss, _), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model, batch)
    optimizer.update(model, grads)
    return loss


class NnxJit(Classifier):
    """The tutorial's loop.

    Args:
      settings: with the job.
      metrics: whether the step updates the tutorial's `MultiMetric`.
      dtype: that the layers compute in.
    """

    def __init__(self, settings, *, metrics=True, dtype=None):
        self.job = job = from_settings(settings)
        self.model = MODELS[job.name](rngs=nnx.Rngs(0), dtype=dtype)
        tx = make_tx(job)
        self.optimizer = nnx.Optimizer(self.model, tx, wrt=nnx.Param)
        self.arguments = [self.model, self.optimizer]
        if metrics:
            parts = {"accuracy": nnx.metrics.Accuracy(), "loss": nnx.metrics.Average("loss")}
            self.arguments.append(nnx.MultiMetric(**parts))
        self.num_steps = 0
        job.train  # noqa: B018  read before the clock runs
        self.model.train()
        self.step = self.compiled()
        self.predict = nnx.jit(lambda model, images: model(images))

    def compiled(self):
        """What is called with each batch."""
        step = nnx.jit(train_step if len(self.arguments) == 3 else train_step_alone)
        return partial(step, *self.arguments)

    def run(self, amount):
        """Goes on with the batches; only the last step is waited for."""
        step = self.step
        for batch in self.batches(amount):
            step(batch)
        self.model.in_order()[-1].bias[...].block_until_ready()

    def batches(self, amount):
        """Each put on the device with `jnp.array`; the one batch of a job that has one stays there."""
        images, labels = self.job.train
        if self.job.one_batch:
            batch = {"image": jnp.array(images), "label": jnp.array(labels)}
            for _ in range(amount):
                yield batch
            return
        for step in range(self.num_steps, self.num_steps + amount):
            examples = self.job.examples(step)
            yield {"image": jnp.array(images[examples]), "label": jnp.array(labels[examples])}
        self.num_steps += amount

    def logits(self, inputs):
        """In evaluation mode."""
        self.model.eval()
        found = self.predict(self.model, inputs)
        self.model.train()
        return found


class NnxCachedPartial(NnxJit):
    """The same with `nnx.cached_partial`, which walks the module once, as its docstring shows it.

    https://flax.readthedocs.io/en/latest/guides/performance.html
    """

    def compiled(self):
        """The step with model, optimizer and metrics bound."""
        function = train_step if len(self.arguments) == 3 else train_step_alone
        step = nnx.jit(function, graph=True, graph_updates=True)
        with nnx.set_graph_mode(True), nnx.set_graph_updates(True):
            return nnx.cached_partial(step, *self.arguments)
