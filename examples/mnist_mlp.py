"""A small network for MNIST that the other examples train."""

import jax
import jax.numpy as jnp
import optax


def init(seed: int = 0, hidden: int = 32) -> dict:
    """Weights of two layers, a plain dict of arrays."""
    keys = jax.random.split(jax.random.key(seed))
    return {
        "w1": jax.random.normal(keys[0], (784, hidden)) / 28,
        "b1": jnp.zeros(hidden),
        "w2": jax.random.normal(keys[1], (hidden, 10)) / hidden**0.5,
        "b2": jnp.zeros(10),
    }


def logits_of(model: dict, batch: dict) -> jax.Array:
    """Logits (batch, 10)."""
    x = batch["image"].reshape(len(batch["image"]), -1)
    return jax.nn.relu(x @ model["w1"] + model["b1"]) @ model["w2"] + model["b2"]


def loss_fn(model: dict, batch: dict) -> tuple[jax.Array, dict]:
    """Cross-entropy of each image; the logits go on to the metrics."""
    logits = logits_of(model, batch)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return loss, {"logits": logits, "labels": batch["label"]}
