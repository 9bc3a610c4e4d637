"""The table of kinds that the laws are tested over: small models with their losses and batches."""

import os
import re
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fourbeat import testing


class Kind(NamedTuple):
    """A model with its data.

    `make(seed)` builds the model, `items(model, batch)` gives `(loss of each item, logits)`,
    `batch(seed, size)` a batch of NumPy columns with labels under "label".
    """

    make: Any
    items: Any
    batch: Any


class SmallCNN(nnx.Module):
    """Convolution, BatchNorm, Dropout, a partial: all that makes state hard."""

    def __init__(self, *, rngs, dtype=None):
        dtypes = {} if dtype is None else {"dtype": dtype, "param_dtype": dtype}
        self.conv = nnx.Conv(1, 4, kernel_size=(3, 3), rngs=rngs, **dtypes)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.head = nnx.Linear(64, 5, rngs=rngs, **dtypes)

    def __call__(self, x):
        x = self.pool(nnx.relu(self.norm(self.conv(x))))
        return self.head(self.drop(x.reshape(x.shape[0], -1)))


class SmallTransformer(nnx.Module):
    """Embedding, causal attention, LayerNorm, Dropout: a loss for each token."""

    def __init__(self, *, rngs):
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, dropout_rate=0.1, rngs=rngs)
        self.head = nnx.Linear(8, 11, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        x = x + self.attention(self.norm(x), mask=nnx.make_causal_mask(tokens))
        return self.head(x)


def cross_entropy(model, batch):
    logits = model(batch["x"])
    labels = batch["label"]
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels), logits


def linear_items(model, batch):
    logits = batch["x"] @ model["w"] + model["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]), logits


def image_batch(seed, size):
    random = np.random.RandomState(seed)
    x = random.standard_normal((size, 8, 8, 1)).astype(np.float32)
    return {"x": x, "label": random.randint(0, 5, size).astype(np.int32)}


def token_batch(seed, size):
    tokens = np.random.RandomState(seed).randint(0, 11, (size, 7)).astype(np.int32)
    return {"x": tokens[:, :-1], "label": tokens[:, 1:]}


def vector_batch(seed, size):
    random = np.random.RandomState(seed)
    x = random.standard_normal((size, 3)).astype(np.float32)
    return {"x": x, "label": random.randint(0, 2, size).astype(np.int32)}


def make_linear(seed):
    return {"w": 0.1 * jax.random.normal(jax.random.key(seed), (3, 2)), "b": jnp.zeros(2)}


KINDS = {
    "dict": Kind(make_linear, linear_items, vector_batch),
    "cnn": Kind(lambda seed: SmallCNN(rngs=nnx.Rngs(seed)), cross_entropy, image_batch),
    "bfloat16 cnn": Kind(
        lambda seed: SmallCNN(rngs=nnx.Rngs(seed), dtype=jnp.bfloat16), cross_entropy, image_batch
    ),
    "transformer": Kind(lambda seed: SmallTransformer(rngs=nnx.Rngs(seed)), cross_entropy, token_batch),
}


def sign_descent(learning_rate):
    """A transformation as a user writes one."""

    def init(params):
        return {"count": jnp.zeros((), jnp.int32)}

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: -learning_rate * jnp.sign(g), updates), {"count": state["count"] + 1}

    return optax.GradientTransformation(init, update)


def by_last_letter(params):
    """Labels for multi_transform: one group for biases, another for all else."""
    return jax.tree_util.tree_map_with_path(lambda path, _: str(path[-1])[2:3] == "b", params)


def compiled(tx):
    """The same transformation, its update a compiled call."""
    return optax.GradientTransformationExtraArgs(tx.init, jax.jit(tx.update))


OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.1),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "adam": lambda: optax.adam(1e-2),
    "adamw": lambda: optax.adamw(1e-2),
    "rmsprop": lambda: optax.rmsprop(1e-3),
    "chain": lambda: optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.add_decayed_weights(1e-3),
        optax.scale_by_adam(),
        optax.scale_by_schedule(lambda count: -1e-2 / (1 + count)),
    ),
    "warm-up cosine": lambda: optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 3, 10)),
    "user's": lambda: sign_descent(1e-3),
    "compiled": lambda: compiled(optax.adam(1e-2)),
    "extra arguments": lambda: optax.contrib.reduce_on_plateau(patience=1, cooldown=0),
    "multi_transform": lambda: optax.multi_transform(
        {True: optax.sgd(0.01), False: optax.adam(1e-3)}, by_last_letter
    ),
    "injected": lambda: optax.inject_hyperparams(optax.adamw)(learning_rate=1e-2),
}


def assert_bit_equal(tree, other):
    """Every leaf equal in its bits, whatever holds the leaves."""
    testing.assert_bit_equal(jax.tree.leaves(tree), jax.tree.leaves(other))


def assert_equal_but_for_contraction(tree, other):
    """Bit-equal where XLA has no fused multiply-add; elsewhere within 8 units in the last place.

    A sum of two products is contracted into one fused multiply-add in two ways, and which of them LLVM takes
    varies from program to program, and from element to element within one.
    """
    if instruction_set() in ("SSE4_2", "AVX"):
        assert_bit_equal(tree, other)
    assert_within_8_ulps(tree, other)


def assert_within_8_ulps(tree, other):
    """Every value within 8 units in the last place of the largest value of its array."""
    for leaf, expected in zip(*map(jax.tree.leaves, (tree, other)), strict=True):
        leaf, expected = (np.asarray(value, np.float32) for value in (leaf, expected))
        limit = 8 * np.spacing(np.abs(expected).max())
        assert (np.abs(leaf - expected) <= limit).all(), (np.abs(leaf - expected).max(), limit)


def instruction_set():
    """The name that XLA on CPU was given for the widest instructions it may use; empty where none was."""
    named = re.findall(r"--xla_cpu_max_isa=(\w+)", os.environ.get("XLA_FLAGS", ""))
    return named[-1] if named else ""


def leaves_every_bit_is_promised():
    """Whether XLA compiles without fused multiply-adds and wide vectors: equal programs then round alike."""
    return instruction_set() == "SSE4_2"


def assert_parameters_as_without(watched, alone):
    """Parameters, optimizer state and statistics of a step with a guard or an average beside those without.

    Bit-equal where that is promised; elsewhere within 8 units in the last place of each array's largest
    value. Metrics are within rounding.
    """
    if leaves_every_bit_is_promised():
        for name in ("params", "opt_state", "rest"):
            assert_bit_equal(getattr(watched, name), getattr(alone, name))
    for name in ("params", "rest"):
        assert_within_8_ulps(getattr(watched, name), getattr(alone, name))
    seen, expected = (state.pop_metrics()[0] if state.metrics else {} for state in (watched, alone))
    assert seen.keys() == expected.keys()
    for name, score in seen.items():
        np.testing.assert_allclose(score, expected[name], rtol=1e-6)
