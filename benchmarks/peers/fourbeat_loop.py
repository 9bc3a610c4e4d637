"""fourbeat: its loop as the README writes it; and its compiled step alone, which is the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import fourbeat as fb
from benchmarks.jobs import from_settings
from benchmarks.peers.classifier import Classifier
from benchmarks.peers.nnx_models import MODELS
from benchmarks.peers.optimizer import make_tx
from fourbeat.compiling import eigen_convolutions

METRICS = fb.metrics.Collection(loss=fb.metrics.Mean("loss"), accuracy=fb.metrics.Accuracy())


def loss_fn(model, batch):
    """Cross-entropy of each example; the logits go on to the metrics."""
    logits = model(batch["image"])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss, {"logits": logits, "labels": batch["label"]}


class Fourbeat(Classifier):
    """The loop: shuffled batches, metrics of the epoch, gradient norm in the logs.

    Args:
      settings: with the job.
      steps_per_call: how many steps a compiled call runs.
      metrics: whether the step feeds metrics of the epoch.
      job: changes to the job.
      model: of `MODELS`, in place of the job's own.
      eigen: whether to compile with Eigen's convolutions, as the recipe mnist-cnn does.
      options: of `four_beats`; `guard=True` is `guard=fb.guard.skip()`.
    """

    def __init__(
        self, settings, *, steps_per_call=1, metrics=True, job=None, model=None, eigen=False, **options
    ):
        self.job = job = from_settings(settings, **(job or {}))
        if job.name == "mnist-cnn":
            data, _ = fb.data.mnist()
        else:
            inputs, labels = job.train
            data = fb.data.Arrays(image=inputs, label=labels)
        self.batches = data.batches(
            job.batch_size, shuffle=not job.one_batch, seed=job.seed, remainder="drop"
        )
        if options.get("guard"):
            options["guard"] = fb.guard.skip()
        self.beats = fb.four_beats(
            loss_fn,
            make_tx(job),
            metrics=METRICS if metrics else None,
            predict=lambda model, batch: model(batch["image"]),
            **options,
        )
        self.state = self.beats.init(MODELS[model or job.name](rngs=nnx.Rngs(0)))
        self.compiler_options = eigen_convolutions() if eigen else None
        self.step = fb.compile(self.beats.train_step, compiler_options=self.compiler_options)
        self.steps_per_call = steps_per_call
        self.predict = jax.jit(self.beats.predict_step)
        self.facts = {"leaves": len(jax.tree.leaves(self.state))}

    def run(self, amount):
        """Goes on from `state.step`."""
        state, step = self.state, self.step
        until = fb.at(steps=int(state.step) + amount) | fb.stop_signal()
        loop = fb.loop(
            self.batches,
            start=state.step,
            until=until,
            marks=[fb.every(steps=1_000)],
            steps_per_call=self.steps_per_call,
        )
        for tick in loop:
            state, _ = step(state, tick.batch)
        self.state = jax.block_until_ready(state)

    def logits(self, inputs):
        """From `beats.predict_step`."""
        return self.predict(self.state, {"image": inputs, "label": np.zeros(len(inputs), np.int32)})


class OneBatch(Fourbeat):
    """fourbeat's own step, called on one batch that lies on the device, without its loop."""

    def learn(self, amount):
        """Trains on the real batches, as the loop does."""
        super().run(amount)

    def run(self, amount):
        """Calls the step on the one batch."""
        if not hasattr(self, "call"):
            self.batch = jax.tree.map(jnp.array, dict(self.batches[0].materialize()))
            self.call = self.prepared(self.batch)
        state, call, batch = self.state, self.call, self.batch
        for _ in range(amount):
            state, _ = call(state, batch)
        self.state = jax.block_until_ready(state)

    def prepared(self, batch):
        """What is called with state and batch."""
        return fb.compile(self.beats.train_step, compiler_options=self.compiler_options)


class BareExecutable(OneBatch):
    """The executable of that step, called itself: what no loop around it can be faster than."""

    def prepared(self, batch):
        """The executable, compiled ahead of time."""
        step = jax.jit(self.beats.train_step, donate_argnums=0, compiler_options=self.compiler_options)
        return step.lower(self.state, batch).compile()
