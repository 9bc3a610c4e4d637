"""How a token is chosen from logits, beside NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fourbeat.recipes.text.generating import chosen

LOGITS = np.random.RandomState(0).standard_normal((4, 11)).astype(np.float32) * 2
KEYS = jax.random.split(jax.random.key(3), 4)


def largest(logits, count):
    return np.where(logits >= np.sort(logits)[-count], logits, -np.inf)


def nucleus(logits, top_p):
    left, total = np.full_like(logits, -np.inf), 0.0
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for token in np.argsort(-logits):
        if total < top_p:
            left[token] = logits[token]
        total += shares[token]
    return left


KINDS = {
    "plainly": ({}, lambda logits: logits),
    "surer": ({"temperature": 0.25}, lambda logits: logits / np.float32(0.25)),
    "the likeliest": ({"temperature": 0.0}, lambda logits: largest(logits, 1)),
    "three": ({"top_k": 3}, lambda logits: largest(logits, 3)),
    "more than there are": ({"top_k": 30}, lambda logits: logits),
    "half of it": ({"top_p": 0.5}, lambda logits: nucleus(logits, 0.5)),
    "all of it": ({"top_p": 1.0}, lambda logits: logits),
    "the first alone": ({"top_p": 1e-6}, lambda logits: largest(logits, 1)),
    "both, surer": (
        {"top_k": 5, "top_p": 0.7, "temperature": 0.5},
        lambda logits: nucleus(largest(logits / np.float32(0.5), 5), 0.7),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_token_is_drawn_from_those_that_are_left(name):
    flags, left_of = KINDS[name]
    flags = {"num_special": 2, "temperature": 1.0, "top_k": None, "top_p": None, **flags}
    tokens = chosen(jnp.asarray(LOGITS), KEYS, **flags)
    special = np.arange(11) < 2
    rows = [left_of(np.where(special, -np.inf, row).astype(np.float32)) for row in LOGITS]
    expected = [int(jax.random.categorical(key, row)) for key, row in zip(KEYS, rows, strict=True)]
    assert tokens.tolist() == expected
