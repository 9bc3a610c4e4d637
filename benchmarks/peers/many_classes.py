"""A linear model of a thousand classes: a step alone, and with a metric of its classes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.works.many_classes import BATCH_SIZE, LEARNING_RATE, NUM_CLASSES, NUM_FEATURES


def batch():
    """Points whose class is that of the highest of as many random projections."""
    random = np.random.RandomState(0)
    inputs = random.standard_normal((BATCH_SIZE, NUM_FEATURES)).astype(np.float32)
    labels = (inputs @ random.standard_normal((NUM_FEATURES, NUM_CLASSES))).argmax(axis=1)
    return {"x": jnp.asarray(inputs), "y": jnp.asarray(labels.astype(np.int32))}


def initial_kernel():
    """Zeros of shape (features, classes)."""
    return jnp.zeros((NUM_FEATURES, NUM_CLASSES))


def losses(kernel, batch):
    """The cross-entropy of each example, and the logits."""
    logits = batch["x"] @ kernel
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]), logits


def counted_by_product(counts, logits, labels):
    """Adds a confusion matrix: the product of two one-hot matrices."""
    classes = jnp.arange(NUM_CLASSES)
    actual, predicted = (
        (kind[:, None] == classes).astype(jnp.float32) for kind in (labels, logits.argmax(-1))
    )
    return counts + actual.T @ predicted


def right_by_argmax(counts, logits, labels):
    """Adds how many labels are the class of the highest logit."""
    return counts + (logits.argmax(-1) == labels).sum()


METRICS_BY_HAND = {
    None: (lambda counts, logits, labels: counts, ()),
    "one-hot product": (counted_by_product, (NUM_CLASSES, NUM_CLASSES)),
    "argmax": (right_by_argmax, ()),
}


class ByHand:
    """`jax.jit` over arrays, donated."""

    def __init__(self, settings, *, metric=None):
        measure, shape = METRICS_BY_HAND[metric]
        tx = optax.sgd(LEARNING_RATE)
        kernel = initial_kernel()
        self.carry = kernel, tx.init(kernel), jnp.zeros(shape)
        self.batch = batch()
        self.facts = {}

        def mean_loss(kernel, batch):
            each, logits = losses(kernel, batch)
            return each.mean(), logits

        def step(kernel, opt_state, counts, batch):
            (loss, logits), grads = jax.value_and_grad(mean_loss, has_aux=True)(kernel, batch)
            updates, opt_state = tx.update(grads, opt_state, kernel)
            return optax.apply_updates(kernel, updates), opt_state, measure(counts, logits, batch["y"]), loss

        self.step = jax.jit(step, donate_argnums=(0, 1, 2))

    def run(self, amount):
        """So many steps more."""
        carry = self.carry
        for _ in range(amount):
            *carry, _ = self.step(*carry, self.batch)
        self.carry = jax.block_until_ready(carry)

    def scores(self):
        """The mean loss."""
        return {"loss": float(losses(self.carry[0], self.batch)[0].mean())}


class Fourbeat:
    """fourbeat's compiled step over the same arrays."""

    def __init__(self, settings, *, metric=None):
        import fourbeat as fb

        metrics = {
            None: {},
            "confusion matrix": {"metric": fb.metrics.ConfusionMatrix(num_classes=NUM_CLASSES, labels="y")},
            "accuracy": {"metric": fb.metrics.Accuracy(labels="y")},
        }[metric]

        def loss_fn(params, batch):
            each, logits = losses(params["kernel"], batch)
            return each, {"logits": logits}

        beats = fb.four_beats(
            loss_fn, optax.sgd(LEARNING_RATE), metrics=fb.metrics.Collection(**metrics) if metrics else None
        )
        self.state = beats.init({"kernel": initial_kernel()})
        self.step = fb.compile(beats.train_step)
        self.batch = batch()
        self.facts = {}

    def run(self, amount):
        """So many steps more."""
        state = self.state
        for _ in range(amount):
            state, _ = self.step(state, self.batch)
        self.state = jax.block_until_ready(state)

    def scores(self):
        """The mean loss."""
        return {"loss": float(losses(self.state.params["kernel"], self.batch)[0].mean())}
