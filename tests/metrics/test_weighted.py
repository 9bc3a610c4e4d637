"""A weight of its own, in a step: two heads, one of tokens and one of examples, each with a mask."""

import jax.numpy as jnp
import numpy as np
import optax

import fourbeat as fb


def test_two_heads_each_with_its_mask_beside_a_weight_of_the_examples():
    """The loss has one value a token; the score of the second head has one an example."""
    rng = np.random.default_rng(0)
    batch = {
        "tokens": rng.normal(size=(4, 3)).astype(np.float32),
        "height": np.float32([1, np.nan, 3, 4]),
        "is_real": rng.integers(0, 2, (4, 3)).astype(bool),
        "is_measured": np.array([True, False, True, True]),
        "weight": np.float32([1, 2, 0.5, 0]),
    }

    def loss_fn(model, batch):
        measured = jnp.where(batch["is_measured"], batch["height"], 0) * model["w"]
        return batch["tokens"] * model["w"], {"measured": measured}

    metrics = fb.metrics.Collection(
        plain=fb.metrics.Mean("loss"),
        tokens=fb.metrics.Weighted(fb.metrics.Mean("loss"), by="is_real"),
        heights=fb.metrics.Weighted(fb.metrics.Mean("measured"), by="is_measured"),
        of_all=fb.metrics.Mean("measured"),
    )
    beats = fb.four_beats(loss_fn, optax.sgd(0.0), metrics=metrics)
    state, _ = beats.train_step(beats.init({"w": jnp.ones(())}), batch)
    seen, _ = state.pop_metrics()
    spread = np.repeat(batch["weight"][:, None], 3, axis=1)
    np.testing.assert_allclose(seen["plain"], np.average(batch["tokens"], weights=spread), rtol=1e-6)
    masked = spread * batch["is_real"]
    np.testing.assert_allclose(seen["tokens"], np.average(batch["tokens"], weights=masked), rtol=1e-6)
    np.testing.assert_allclose(seen["heights"], (1 * 1 + 3 * 0.5) / 1.5, rtol=1e-6)
    np.testing.assert_allclose(seen["of_all"], (1 * 1 + 3 * 0.5) / 3.5, rtol=1e-6)
