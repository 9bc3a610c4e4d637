"""The memory of a compiled step, in bytes, before the first step runs."""

import jax
import jax.numpy as jnp
import optax
import pytest

import fourbeat as fb

BATCH = {"x": jnp.ones((64, 128)), "y": jnp.ones(64)}


def loss_fn(model, batch, scale=1.0, noise=None):
    hidden = jnp.tanh(batch["x"] @ model["w"])
    return scale * (hidden.sum(1) - batch["y"]) ** 2


def test_the_table_has_the_bytes_of_state_batch_and_temporaries_and_nothing_has_run():
    beats = fb.four_beats(loss_fn, optax.adam(1e-3))
    shapes = jax.eval_shape(lambda: beats.init({"w": jnp.ones((128, 256))}))
    step = fb.compile(beats.train_step)
    needed = step.memory(shapes, BATCH, scale=2.0, noise=jax.random.key(0))
    weights = 4 * 128 * 256
    assert needed.state == sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    assert 3 * weights < needed.state < 3 * weights + 100  # the weights and two moments
    assert needed.batch == 4 * (64 * 128 + 64 + 1 + 2)  # two columns, a number and a key
    compiled = jax.jit(beats.train_step, donate_argnums=0).lower(shapes, BATCH, scale=2.0).compile()
    analysis = compiled.memory_analysis()
    assert needed.temporaries - analysis.temp_size_in_bytes == pytest.approx(0, abs=128)  # the logs
    assert needed.temporaries > 4 * 64 * 256  # activations
    assert step.num_compilations == 0
    lines = str(needed).splitlines()
    assert lines[:2] == ["bytes", "state          393.2 kB"]
    assert [line[:13].strip() for line in lines[2:]] == ["batch", "temporaries", "in all", "a device has"]
    kept = fb.compile(beats.train_step, donate=False).memory(shapes, BATCH, scale=2.0)
    assert kept.temporaries >= needed.temporaries + 2 * weights  # the new state beside the old one
